"""The files that the process target keeps in `.openfactory` beside the files of the apps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from openfactory.deploy.targets.process.log_files import remove_log

__all__ = ["Layout"]


class Layout:
    """The paths in the folder of a supervisor.

    Args:
        folder: the folder `.openfactory`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "state.json"
        self.damaged_records = folder / "state.damaged.json"
        self.socket = folder / "supervisor.sock"
        self.lock = folder / "supervisor.lock"
        self.supervisor_log = folder / "supervisor.log"
        self.database = folder / "factory.db"
        self.logs = folder / "logs"
        self.secrets = folder / "secrets"

    def create(self) -> None:
        """Create the folder, whose content Git ignores."""
        self.folder.mkdir(exist_ok=True)
        with suppress(FileExistsError), open(self.folder / ".gitignore", "x", encoding="ascii") as file:
            file.write("*\n")

    def log(self, uuid: str) -> Path:
        """Return the log of an asset; the generations that run beside each other share it."""
        return self.logs / f"{quote(uuid, safe='')}.log"

    def secret_folder(self, uuid: str, generation: int) -> Path:
        """Return the folder with the secrets of an instance."""
        return self.secrets / quote(uuid, safe="") / str(generation)

    def write_secrets(self, uuid: str, generation: int, secrets: Mapping[str, str], owner: tuple[int, int]) -> None:
        """Write the secrets of an instance into files that only its user can read.

        Args:
            uuid: UUID of the asset.
            generation: number of the release.
            secrets: values by name.
            owner: ids of the user and the group, each -1 for those of this process.
        """
        folder = self.secret_folder(uuid, generation)
        for shared in (self.secrets, folder.parent):
            shared.mkdir(mode=0o711, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, value in secrets.items():
            path = folder / name
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(value)
                os.fchown(descriptor, *owner)
        os.chown(folder, *owner)

    def remove_secrets(self, uuid: str, generation: int) -> None:
        """Remove the secrets of an instance."""
        folder = self.secret_folder(uuid, generation)
        shutil.rmtree(folder, ignore_errors=True)
        for empty in (folder.parent, self.secrets):
            with suppress(OSError):
                empty.rmdir()

    def remove_all_secrets(self) -> None:
        """Remove the secrets of all instances."""
        shutil.rmtree(self.secrets, ignore_errors=True)

    def remove_log(self, uuid: str) -> None:
        """Remove the log of an asset with its older parts."""
        remove_log(self.log(uuid))
        with suppress(OSError):
            self.logs.rmdir()
