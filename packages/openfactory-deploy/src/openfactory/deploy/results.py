"""The results of a deployment: how each step has ended. Values, no I/O."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from openfactory.deploy.plan import Action

__all__ = ["Outcome", "Result"]


class Outcome(StrEnum):
    """How a step has ended."""

    UP = "up"
    UNCHANGED = "unchanged"
    REGISTERED = "registered"
    REMOVED = "removed"
    LEFT = "left"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """Whether the asset is not as the files want it."""
        return self in (Outcome.ROLLED_BACK, Outcome.FAILED, Outcome.SKIPPED)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one step has ended.

    Attributes:
        uuid: UUID of the asset.
        app: UUID of its app.
        action: what was to happen.
        outcome: how it has ended.
        text: the facts in a sentence.
        generation: number of the release that runs now, or None.
        seconds: seconds that the step took.
        exit_status: status with which a new version has ended that did not come up, or None.
        log: last lines of its log then.
        dropped: methods and attributes that the new version does not have.
        address: URL of its web pages, or None.
    """

    uuid: str
    app: str
    action: Action
    outcome: Outcome
    text: str = ""
    generation: int | None = None
    seconds: float = 0.0
    exit_status: int | None = None
    log: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    address: str | None = None
