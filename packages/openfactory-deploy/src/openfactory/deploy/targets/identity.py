"""The labels by which a target finds its instances."""

from __future__ import annotations

from openfactory.deploy.app import Release

__all__ = ["APP", "GENERATION", "HASH", "PROJECT", "RESTART", "UUID", "identity_labels"]

PROJECT = "openfactory.project"
APP = "openfactory.app"
UUID = "openfactory.uuid"
HASH = "openfactory.hash"
GENERATION = "openfactory.generation"
#: On Docker only: the restart policy of the release, which the container lacks while it is replaced.
RESTART = "openfactory.restart"


def identity_labels(project: str, release: Release) -> dict[str, str]:
    """Return the labels of a release on every target."""
    return {
        PROJECT: project,
        APP: release.app.settings.uuid,
        UUID: release.uuid,
        HASH: release.hash,
        GENERATION: str(release.generation),
    }
