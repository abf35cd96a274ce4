"""The plan of a deployment: an action for each asset, and its reasons. Values, no I/O."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.registered import RegisteredAsset
from openfactory.deploy.targets.base import Instance

__all__ = ["Action", "Orphan", "Plan", "Step"]


class Action(StrEnum):
    """The ways in which a deployment touches an asset, or leaves it alone."""

    APPEAR = "appear"
    CHANGE = "change"
    RESTART = "restart"
    VANISH = "vanish"
    UNCHANGED = "unchanged"
    ORPHAN = "orphan"


class Orphan(StrEnum):
    """Two facts of an asset that do not fit together."""

    INSTANCE_WITHOUT_FILE = "instance without file"
    REGISTRATION_WITHOUT_INSTANCE = "registration without instance"
    INSTANCE_WITHOUT_REGISTRATION = "instance without registration"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a plan about one asset.

    Attributes:
        uuid: UUID of the asset.
        app: UUID of its app.
        action: what happens to it.
        reasons: why, in sentences without a full stop.
        orphan: which facts do not fit together, for an orphan.
        release: its release by the files, or by the last deployment if no file has it; None if neither is known.
        instance: its instance on the target, or None.
        stale: further instances, which an interrupted deployment has left.
        asset: facts of the factory, or None if its log has none.
        drops: methods and attributes that the new version does not have, as far as that is known before it starts.
        unknown_drops: whether only a start can tell which methods and attributes the new version has.
        blocked: why the step cannot be done, with the remedy; empty if it can.
        depends_on: UUIDs of the apps that must be up before.
    """

    uuid: str
    app: str
    action: Action
    reasons: tuple[str, ...] = ()
    orphan: Orphan | None = None
    release: Release | None = None
    instance: Instance | None = None
    stale: tuple[Instance, ...] = ()
    asset: RegisteredAsset | None = None
    drops: tuple[str, ...] = ()
    unknown_drops: bool = False
    blocked: str = ""
    depends_on: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """The steps of a deployment, one for each asset, in the order of the files and then of the UUIDs.

    Attributes:
        project: name of the project.
        target: name of the target.
        steps: the steps.
    """

    project: str
    target: str
    steps: tuple[Step, ...]

    @property
    def differs(self) -> bool:
        """Whether files, instances and registrations do not fit together."""
        return any(step.action is not Action.UNCHANGED for step in self.steps)
