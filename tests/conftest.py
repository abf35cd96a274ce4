"""What every test stands on: an environment without settings, and nothing left behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

# Time is no measure on a machine that is busy. The small profile tries the same examples in each run.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _UNTIMED, max_examples=40, derandomize=True, database=None)
settings.register_profile("thorough", _UNTIMED, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

_THOROUGH = settings.get_current_profile_name() == "thorough"

# Files in memory, where there is room: writing and removing them on a disk is a sixth of the work. A thorough run uses
# the disk, and so does a run that is told where to put them.
_MEMORY = Path("/dev/shm")
if not _THOROUGH and "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 8 * 2**30:
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None  # pytest has asked already

#: Files, or folders of files, whose tests share what a fixture of the file starts: one worker runs the whole file.
FILES_OF_ONE_WORKER = (
    "tests/apps/cli/",
    "tests/deploy/engines/",
    "tests/gateway/",
    "tests/kafka/test_foreign_partitioners.py",
    "tests/kafka/test_ksqldb_engine.py",
    "tests/kafka/test_ksqldb_engine_conforms.py",
    "tests/kafka/test_nats_repair.py",
    "tests/kafka/test_servers.py",
    "tests/storage_servers/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests one by one, but for the files of one worker. The marks of loadgroup do nothing in pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0] if nodeid.startswith(FILES_OF_ONE_WORKER) else nodeid

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on the cluster of KUBECONFIG, unless `-m kubernetes` asks for them, and spread the others.

    The tests of each folder are spread over the whole run of several workers. Some folders wait for servers, others use
    a core: beside each other they take half the time.
    """
    if "kubernetes" not in (config.option.markexpr or ""):
        left_out = [item for item in items if item.get_closest_marker("kubernetes")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    folders: dict[Path, list[pytest.Item]] = {}
    for item in items:
        folders.setdefault(item.path.parent, []).append(item)
    place = {item: (n + 0.5) / len(folder) for folder in folders.values() for n, item in enumerate(folder)}
    items.sort(key=place.__getitem__)


def pytest_collection_finish() -> None:
    """Keep the collector of garbage away from thousands of tests, which stay until the end."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Give the signals of a terminal their usual effect; under nohup and in the background, they are ignored."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGHUP", "SIGINT", "SIGQUIT"):
            if (number := getattr(signal, name, None)) and signal.getsignal(number) == signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write lone surrogates as escapes: some tests log them, and no worker can send them."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that all workers of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    try:
        from openfactory.settings import VARIABLES
    except ImportError:  # openfactory-storage alone
        monkeypatch.delenv("STORAGE", raising=False)
        return
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """A test that leaves an engine open, or a thread of one, fails; those after it do not."""
    before = _open_threads()
    yield
    deadline = time.monotonic() + 30  # what ends by itself may take a moment to
    while (left := _open_threads() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left open: {sorted(t.name for t in left)}. Close the asset, the app or the client."


def _open_threads() -> set[threading.Thread]:
    names = ("openfactory-writer", "openfactory-tail", "openfactory-loop")
    return {thread for thread in threading.enumerate() if thread.name.startswith(names)}


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often a test of chance tries, in a usual run and in a thorough one: `rounds(15, 50)`."""
    return lambda usual, thorough: thorough if _THOROUGH else usual


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait for a condition, with a bound: `eventually(lambda: seen == [1])`."""

    def wait(condition: Callable[[], object], timeout: float = 120.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "it did not come to be in time"
            time.sleep(0.005)

    return wait


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh place of data, once in memory and once in a file."""
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"sqlite:///{tmp_path}/factory.db"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A fresh place of data in a file, for tests with several processes."""
    return f"sqlite:///{tmp_path}/factory.db"
