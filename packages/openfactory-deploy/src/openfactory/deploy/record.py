"""The record of deployments: an asset of the factory whose events are their steps.

The asset has no owner. A process that deploys ends, and the asset of an owner that has ended is not registered and
reads as UNAVAILABLE, while a record stays. So each deployment writes to it as any program does, one at a time by the
lock of the project.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec

from openfactory.assets import Asset, AssetAttribute, AssetEvent, Factory
from openfactory.events.event import check_asset_uuid
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.utils.registering import register_asset

__all__ = ["RECORD_TYPE", "DeploymentRecord", "RecordedStep", "record_uuid", "recorded_steps"]

#: Type under which the record is registered.
RECORD_TYPE = "Deployment"

_STATUS = "status"
_STEP = "step"

_logger = logging.getLogger("openfactory.deploy")


class RecordedStep(msgspec.Struct, frozen=True):
    """One step of a deployment.

    Attributes:
        asset: UUID of the asset.
        action: what happens to it, as in a plan.
        outcome: `begins`, or how it has ended.
        text: the facts in a sentence.
        generation: number of its release, or None.
        time: time of the step; empty before it is recorded.
    """

    asset: str
    action: str
    outcome: str
    text: str
    generation: int | None = None
    time: str = ""


def record_uuid(project: str) -> str:
    """Return the UUID of the asset that records the deployments of a project."""
    return check_asset_uuid(f"deployment-{project}")


class DeploymentRecord:
    """The writer of the record of a project.

    A step that cannot be recorded is logged, and the deployment goes on.

    Args:
        factory: factory of the project.
        project: name of the project.
    """

    def __init__(self, factory: Factory, project: str) -> None:
        self._uuid = record_uuid(project)
        self._factory = factory
        self._asset: Asset | None = None

    def begin(self, text: str) -> None:
        """Record the begin of a deployment."""
        try:
            if self._uuid not in self._factory.assets():
                register_asset(self._uuid, None, RECORD_TYPE, KSQLDBClient(self._factory.url))
            self._asset = self._factory.asset(self._uuid)
        except OpenFactoryError as error:
            _logger.warning("The deployment is not recorded: %s", error)
        self._write(_STATUS, text, "Deployment.Status")

    def step(self, step: RecordedStep) -> None:
        """Record a step."""
        value = {name: part for name, part in msgspec.structs.asdict(step).items() if name != "time"}
        self._write(_STEP, value, "Deployment.Step")

    def end(self, text: str) -> None:
        """Record the end of a deployment, and wait until all is written."""
        self._write(_STATUS, text, "Deployment.Status")
        if self._asset is not None:
            try:
                self._asset.flush()
            except OpenFactoryError as error:
                _logger.warning("The deployment is not recorded in full: %s", error)
            self._asset.close()
            self._asset = None

    def _write(self, attribute_id: str, value: Any, tag: str) -> None:
        if self._asset is None:
            return
        try:
            attribute = AssetAttribute(attribute_id, value, "Events", tag)
            self._asset.add_attribute(attribute, wait_to_become_available=False)
        except OpenFactoryError as error:
            _logger.warning("A step of the deployment is not recorded: %s", error)


def recorded_steps(factory: Factory, project: str, limit: int = 1000) -> Iterator[RecordedStep | tuple[str, str]]:
    """Yield the steps of the deployments of a project and, as time and text, their begins and ends; oldest first."""
    for event in factory.history(record_uuid(project), limit=limit):
        if event.id == _STATUS:
            yield event.timestamp, str(event.value)
        elif event.id == _STEP and (step := _step_in(event)) is not None:
            yield step


def _step_in(event: AssetEvent) -> RecordedStep | None:
    try:
        step = msgspec.convert(event.value, RecordedStep)
    except msgspec.ValidationError:
        return None  # another program has written it
    return msgspec.structs.replace(step, time=event.timestamp)
