"""The failed starts of a project are kept until the app is up."""

from __future__ import annotations

import stat
from pathlib import Path

from openfactory.deploy.failed_starts import FailedStart, FailedStarts
from plain_deployer import Deployer
from plain_target import PlainTarget, release_of


def failed(uuid: str, text: str = "it has ended.") -> FailedStart:
    return FailedStart(uuid, uuid, 1, "2026-11-21T07:30:00.000Z", text, ("a line",))


def test_the_last_one_of_each_asset_is_kept(tmp_path: Path) -> None:
    starts = FailedStarts(tmp_path, "process")
    assert starts.all() == {}
    starts.forget("MILL")
    for start in (failed("SAW/1"), failed("MILL"), failed("MILL", "it is gone.")):
        starts.keep(start)
    assert starts.all() == {"MILL": failed("MILL", "it is gone."), "SAW/1": failed("SAW/1")}
    assert FailedStarts(tmp_path, "docker").all() == {}
    starts.forget("SAW/1")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"{")
    assert starts.all() == {}


def test_a_long_line_is_cut(plain: PlainTarget, file_url: str) -> None:
    folder = plain.project.folder
    (folder / "press.py").write_text("raise SystemExit('x' * 100_000)")
    result = Deployer(plain, file_url).up(release_of(folder, file_url, "PRESS"))["PRESS"]
    assert result.log[-1].endswith("xxx …")
    assert max(map(len, result.log)) < 2000
    assert Deployer(plain, file_url).store.failed.all()["PRESS"].log == result.log
