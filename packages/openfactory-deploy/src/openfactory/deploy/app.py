"""An app as its file describes it, with everything that a target needs: values, no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.problems import Place

__all__ = ["App", "Release", "UNSPlace"]


class UNSPlace(msgspec.Struct, frozen=True):
    """The place of an asset in the unified namespace."""

    levels: Mapping[str, str]
    uns_id: str


class App(msgspec.Struct, frozen=True):
    """One checked app of a file.

    Attributes:
        name: its key below `apps`, for messages and `depends_on`.
        place: the line where it stands.
        settings: its keys and values, checked.
        uns: its place in the unified namespace, or None without a schema.
        replica_places: the places of its replicas, if there are several and a schema.
    """

    name: str
    place: Place
    settings: AppFile
    uns: UNSPlace | None = None
    replica_places: tuple[UNSPlace, ...] = ()


class Release(msgspec.Struct, frozen=True):
    """One replica of an app as it is to run; the same for every target.

    Attributes:
        app: the app.
        uuid: UUID of the asset: that of the app, with `-1`, `-2` … if there are several replicas.
        replica: number of the replica, from 1.
        environment: the whole environment of the app, without secrets.
        secrets: by name, the values that the app reads from files.
        mounts: mounts of the storages, each in the form of the Docker API.
        generation: number of this release of the app on the target, from 1.
    """

    app: App
    uuid: str
    replica: int
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    mounts: tuple[Mapping[str, Any], ...]
    generation: int = 1

    @property
    def name(self) -> str:
        """Name on the target, as containers have it: the UUID in lower case."""
        return self.uuid.lower()

    @property
    def variables(self) -> dict[str, str]:
        """The environment that an instance of this generation gets."""
        return {**self.environment, "APP_GENERATION": str(self.generation)}

    @property
    def uns(self) -> UNSPlace | None:
        """Place of the asset in the unified namespace, or None without a schema."""
        places = self.app.replica_places
        return places[self.replica - 1] if places else self.app.uns

    @property
    def hash(self) -> str:
        """Hash of all that the release is made of; it changes when the replica must be made anew."""
        secrets = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in self.secrets.items()}
        content = [
            self.app.settings.model_dump(mode="json"),
            self.uuid,
            dict(self.environment),
            secrets,
            list(self.mounts),
        ]
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:16]
