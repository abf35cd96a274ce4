"""The releases that have been up: the last ones of each asset stay in the project's folder, for a rollback.

A release is kept without the values of its secrets. A rollback takes these from the present files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from openfactory.deploy.app import App, Release, UNSPlace
from openfactory.deploy.failed_starts import FailedStarts
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.own_files import remove_unfinished, write_own_file
from openfactory.deploy.problems import Place
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import OpenFactoryError

__all__ = ["KEPT", "KeptRelease", "MissingSecretError", "ReleaseStore"]

#: Number of releases of each asset that are kept.
KEPT = 5


class MissingSecretError(OpenFactoryError):
    """An earlier release has a secret that the present one does not have.

    Attributes:
        names: names of the secrets.
    """

    def __init__(self, message: str, *, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


class KeptRelease(msgspec.Struct, frozen=True):
    """A release that has been up.

    Attributes:
        release: the release; its secrets have empty values.
        hash: hash of the release with its secrets.
        time: time at which it was up.
    """

    release: Release
    hash: str
    time: str

    def with_secrets_of(self, present: Release | None) -> Release:
        """Return the release with the values that its secrets have in another release of its asset.

        Args:
            present: the other release; None if there is none.

        Raises:
            MissingSecretError: the other release does not have a secret of it.
        """
        release = self.release
        if not release.secrets:
            return release
        known = {} if present is None else present.secrets
        missing = tuple(sorted(release.secrets.keys() - known.keys()))
        if present is None or missing:
            raise MissingSecretError(
                f"Generation {release.generation} of {release.uuid} needs {', '.join(missing)}, which the files do not "
                "have any more. Add it to `secrets` again.",
                names=missing,
            )
        own = {name: secret for name, secret in present.app.settings.secrets.items() if name in release.secrets}
        settings = release.app.settings.model_copy(update={"secrets": own})
        return msgspec.structs.replace(
            release,
            app=msgspec.structs.replace(release.app, settings=settings),
            secrets={name: present.secrets[name] for name in release.secrets},
        )


class _Stored(msgspec.Struct, frozen=True):
    """The content of a file."""

    generation: int
    hash: str
    time: str
    name: str
    file: str
    line: int
    settings: dict[str, Any]
    uns: UNSPlace | None
    uuid: str
    replica: int
    environment: dict[str, str]
    secrets: list[str]
    mounts: list[dict[str, Any]]


class ReleaseStore:
    """The last releases of the assets of a project on a target, one file for each.

    Args:
        folder: folder of the project's own files.
        target: name of the target.

    Attributes:
        failed: the starts that have failed since.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder / "releases" / target
        self.failed = FailedStarts(folder, target)

    def keep(self, release: Release) -> None:
        """Keep a release that is up, and forget the oldest ones of its asset."""
        folder = self._folder_of(release.uuid)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        app, settings = release.app, release.app.settings.model_dump(mode="json")
        del settings["secrets"]
        stored = _Stored(
            release.generation, release.hash, current_timestamp(), app.name, str(app.place.file), app.place.line,
            settings, release.uns, release.uuid, release.replica, dict(release.environment),
            sorted(release.secrets), [dict(mount) for mount in release.mounts],
        )  # fmt: skip
        # An environment may contain passwords, so the file is for its owner alone.
        write_own_file(folder / f"{release.generation}.json", msgspec.json.encode(stored))
        remove_unfinished(folder)
        for number in self._generations(release.uuid)[:-KEPT]:
            (folder / f"{number}.json").unlink(missing_ok=True)

    def of(self, uuid: str) -> list[KeptRelease]:
        """Return the kept releases of an asset, oldest first; a file that cannot be read is skipped."""
        return list(self._newest_first(uuid))[::-1]

    def last(self, uuid: str) -> KeptRelease | None:
        """Return the newest kept release of an asset."""
        return next(self._newest_first(uuid), None)

    def all_last(self) -> dict[str, KeptRelease]:
        """Return the newest kept release of each asset, by UUID."""
        if not self._folder.is_dir():
            return {}
        uuids = sorted(unquote(folder.name) for folder in self._folder.iterdir() if folder.is_dir())
        found = {uuid: self.last(uuid) for uuid in uuids}
        return {uuid: kept for uuid, kept in found.items() if kept is not None}

    def generation(self, uuid: str) -> int:
        """Return the highest kept generation of an asset, or 0."""
        return max(self._generations(uuid), default=0)

    def _folder_of(self, uuid: str) -> Path:
        return self._folder / quote(uuid, safe="")

    def _generations(self, uuid: str) -> list[int]:
        return sorted(int(file.stem) for file in self._folder_of(uuid).glob("*.json") if file.stem.isdigit())

    def _newest_first(self, uuid: str) -> Iterator[KeptRelease]:
        kept = (self._read(uuid, number) for number in reversed(self._generations(uuid)))
        return (release for release in kept if release is not None)

    def _read(self, uuid: str, generation: int) -> KeptRelease | None:
        try:
            content = (self._folder_of(uuid) / f"{generation}.json").read_bytes()
            stored = msgspec.json.decode(content, type=_Stored)
            settings = AppFile.model_validate(stored.settings)
        except (OSError, ValueError, msgspec.MsgspecError):  # of another version, or cut off
            return None
        app = App(stored.name, Place(Path(stored.file), stored.line), settings, stored.uns)
        secrets = dict.fromkeys(stored.secrets, "")
        release = Release(
            app, stored.uuid, stored.replica, stored.environment, secrets, tuple(stored.mounts), stored.generation
        )
        return KeptRelease(release, stored.hash, stored.time)
