"""What a shell is told when somebody presses Tab."""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Ofa = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tab(ofa: Ofa) -> Callable[..., list[str]]:
    """What completes a line: `tab("ofa asset inspect ")`."""

    def press(line: str, **more: str) -> list[str]:
        words = shlex.split(line)
        if line.endswith(" "):
            words.append("")
        asked = {"_OFA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        found = ofa(**asked, **more)
        assert found.returncode == 0
        assert found.stderr == ""
        return [answer.partition(",")[2] for answer in found.stdout.split()]

    return press


class TestWithAFactory:
    @pytest.fixture
    def workshop(self, press_workshop: Path) -> Path:
        return press_workshop

    @pytest.mark.parametrize("command", ["inspect", "methods", "watch", "set", "call"])
    def test_uuids(self, tab: Callable[..., list[str]], command: str) -> None:
        assert tab(f"ofa asset {command} ") == ["press"]

    @pytest.mark.parametrize("command", ["watch", "set"])
    def test_attribute_ids(self, tab: Callable[..., list[str]], command: str) -> None:
        assert {"avail", "force", "status"} <= set(tab(f"ofa asset {command} press "))
        assert tab(f"ofa asset {command} press st") == ["status", "strokes"]

    def test_method_names(self, tab: Callable[..., list[str]]) -> None:
        assert tab("ofa asset call press ") == ["jam", "press", "release", "sleep"]
        assert tab("ofa asset call press re") == ["release"]

    def test_the_factory_that_the_line_names(
        self, tab: Callable[..., list[str]], workshop: Path, tmp_path: Path
    ) -> None:
        url = f"sqlite:///{workshop}/factory.db"
        assert tab("ofa asset inspect ", KSQLDB_URL=f"sqlite:///{tmp_path}/none.db") == []
        assert tab(f"ofa asset inspect --url {url} p", KSQLDB_URL=f"sqlite:///{tmp_path}/none.db") == ["press"]

    def test_nothing_where_nothing_goes_on(self, tab: Callable[..., list[str]]) -> None:
        assert tab("ofa asset inspect x") == []
        assert tab("ofa asset call lathe ") == []


def test_no_factory_is_made_and_nothing_is_said(tab: Callable[..., list[str]], workshop: Path) -> None:
    assert tab("ofa asset inspect ") == []
    assert list(workshop.iterdir()) == []


@pytest.mark.parametrize("url", ["memory://", "mysql://x", "sqlite:///notes.txt", "sqlite:///."])
def test_a_place_that_cannot_be_read_completes_nothing(tab: Callable[..., list[str]], workshop: Path, url: str) -> None:
    (workshop / "notes.txt").write_text("no database " * 100)
    assert tab("ofa asset inspect ", KSQLDB_URL=url) == []


def test_no_server_is_asked_for_it_may_take_seconds_to_answer(tab: Callable[..., list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        assert tab("ofa asset inspect ", KSQLDB_URL=f"http://127.0.0.1:{server.getsockname()[1]}") == []
        with pytest.raises(BlockingIOError):
            server.accept()


def test_commands_complete(tab: Callable[..., list[str]]) -> None:
    of_others = {"apps", "fanout"}  # where openfactory-deploy and openfactory-fanout are installed
    assert [name for name in tab("ofa ") if name not in of_others] == [
        *("asset", "completion", "db", "doctor", "run", "setup-kafka", "version"),
    ]
    assert "call" in tab("ofa asset ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_the_shell_is_in_the_help_and_its_script_asks_ofa(ofa: Ofa, shell: str) -> None:
    assert f"ofa completion {shell}" in ofa("completion", "--help").stdout
    script = ofa("completion", shell).stdout
    assert f"_OFA_COMPLETE={shell}_complete" in script
    assert "complete" in script


def test_bash_takes_the_script(ofa: Ofa) -> None:
    script = ofa("completion", "bash").stdout
    found = subprocess.run(["bash", "-c", script + "\ncomplete -p ofa"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith(" ofa\n")
