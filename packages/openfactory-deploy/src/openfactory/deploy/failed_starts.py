"""The ends of the logs of apps that did not come up: a target removes the log of an app with its instance."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec

from openfactory.deploy.own_files import remove_unfinished, write_own_file

__all__ = ["FailedStart", "FailedStarts"]


class FailedStart(msgspec.Struct, frozen=True):
    """An app that did not come up.

    Attributes:
        uuid: UUID of its asset.
        app: UUID of the app.
        generation: number of its release.
        time: time at which it failed.
        text: the facts in a sentence.
        log: last lines of its log.
    """

    uuid: str
    app: str
    generation: int
    time: str
    text: str
    log: tuple[str, ...] = ()


class FailedStarts:
    """The last failed start of each asset of a project on a target, until the asset is up or removed.

    Args:
        folder: folder of the project's own files.
        target: name of the target.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder / "failed" / target

    def keep(self, failed: FailedStart) -> None:
        """Keep a failed start in place of an earlier one of its asset.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_own_file(self._file(failed.uuid), msgspec.json.encode(failed))  # a log may have secrets
        remove_unfinished(self._folder)

    def forget(self, uuid: str) -> None:
        """Forget the failed start of an asset, if there is one."""
        self._file(uuid).unlink(missing_ok=True)

    def all(self) -> dict[str, FailedStart]:
        """Return the failed starts by UUID, sorted; a file that cannot be read is skipped."""
        found = {}
        for file in sorted(self._folder.glob("*.json")):
            try:
                failed = msgspec.json.decode(file.read_bytes(), type=FailedStart)
            except (OSError, msgspec.MsgspecError):
                continue
            found[failed.uuid] = failed
        return found

    def _file(self, uuid: str) -> Path:
        return self._folder / f"{quote(uuid, safe='')}.json"
