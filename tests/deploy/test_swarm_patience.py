"""A swarm that does not do its work: the target tells, and leaves nothing. The engine is a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine_targets import waiting_release
from openfactory.deploy.targets.base import InstanceState, Project, TargetError
from openfactory.deploy.targets.docker import engine
from openfactory.deploy.targets.swarm import SwarmTarget
from openfactory.deploy.targets.swarm import target as swarm_target


class IdleSwarm:
    """The client of a swarm that takes each order, and has the same tasks always."""

    def __init__(self) -> None:
        self.tasks_of_service: list[dict[str, Any]] = []
        self.tasks_after_update: list[dict[str, Any]] = []
        self.service: dict[str, Any] | None = None
        self.removed = 0

    def services(self, filters: object) -> list[dict[str, Any]]:
        return [] if self.service is None else [self.service]

    def create_service(self, name: str, task_template: dict[str, Any], labels: object, **_: object) -> dict[str, str]:
        spec = {"Name": name, "Labels": labels, "TaskTemplate": task_template}
        self.service = {"ID": "s1", "Version": {"Index": 1}, "Spec": spec}
        return {"ID": "s1"}

    def inspect_service(self, service: str) -> dict[str, Any] | None:
        return self.service

    def tasks(self, filters: object = None) -> list[dict[str, Any]]:
        return [] if self.service is None else self.tasks_of_service

    def update_service(self, *_: object, **__: object) -> None:
        self.tasks_of_service = self.tasks_after_update

    def remove_service(self, service: str) -> None:
        self.service = None
        self.removed += 1

    def containers(self, **_: object) -> list[str]:
        return []

    def close(self) -> None:
        """Close nothing."""


def task(state: str, number: int = 1, **status: str) -> dict[str, Any]:
    made = f"2026-11-21T07:30:0{number}.000000000Z"
    return {"ID": f"t{number}", "ServiceID": "s1", "CreatedAt": made, "Status": {"State": state, **status}}


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> IdleSwarm:
    swarm = IdleSwarm()
    monkeypatch.setattr(engine, "connect", lambda: swarm)
    monkeypatch.setattr(swarm_target, "pinned_image", lambda api, image, always: image)
    monkeypatch.setattr(swarm_target, "_PATIENCE", 0.3)
    return swarm


@pytest.fixture
def target(idle: IdleSwarm, tmp_path: Path) -> Iterator[SwarmTarget]:
    with closing(SwarmTarget(Project("hall-2", tmp_path))) as target:
        yield target


@pytest.mark.parametrize(("tasks", "told"), [([], "it has no new task"), ([task("assigned")], "its task is assigned")])
def test_a_service_that_no_node_begins_is_an_error_and_is_removed(
    target: SwarmTarget, idle: IdleSwarm, tasks: list[dict[str, Any]], told: str
) -> None:
    idle.tasks_of_service = tasks
    with pytest.raises(TargetError, match=rf"within 0\.3 s, {told}\. .*service ps --no-trunc mill-1\.$"):
        target.start(waiting_release("mill:1"))
    assert idle.removed == 1


def test_a_node_has_more_time_to_fetch_an_image(
    target: SwarmTarget, idle: IdleSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm_target, "_PULL_PATIENCE", 0.6)
    idle.tasks_of_service = [task("preparing")]
    with pytest.raises(TargetError, match=r"within 0\.6 s, its task is preparing"):
        target.start(waiting_release("mill:1"))


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ([task("shutdown")], "it has no new task"),
        ([task("shutdown"), task("ready", 2)], "its task is ready"),  # it waits for the end of the first
    ],
)
def test_a_restart_ends_when_a_new_task_has_begun(
    target: SwarmTarget, idle: IdleSwarm, monkeypatch: pytest.MonkeyPatch, tasks: list[dict[str, Any]], told: str
) -> None:
    monkeypatch.setattr(swarm_target, "_PULL_PATIENCE", 0.6)
    idle.tasks_of_service = [task("running")]
    started = target.start(waiting_release("mill:1", stop_grace_period="100ms"))
    idle.tasks_after_update = tasks
    with pytest.raises(TargetError, match=rf"was not restarted.*{told}.*service ps --no-trunc mill-1\.$"):
        target.restart(started)


def test_a_restart_waits_while_the_old_task_has_the_resources_of_the_new_one(
    target: SwarmTarget, idle: IdleSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle.tasks_of_service = [task("running")]
    started = target.start(waiting_release("mill:1", stop_grace_period="60s"))
    looks = [
        [task("running")],
        [task("running"), task("pending", 2, Err="no suitable node")],
        [task("shutdown"), task("running", 2)],
    ]
    monkeypatch.setattr(idle, "tasks", lambda filters: looks.pop(0))
    target.restart(started)
    assert looks == []


@pytest.mark.parametrize(("begun", "state"), [("starting", InstanceState.STARTING), ("running", InstanceState.RUNNING)])
def test_a_restarted_instance_has_not_ended(
    target: SwarmTarget, idle: IdleSwarm, begun: str, state: InstanceState
) -> None:
    idle.tasks_of_service = [task("running")]
    started = target.start(waiting_release("mill:1"))
    idle.tasks_after_update = [task("shutdown"), task(begun, 2)]
    target.restart(started)
    assert [instance.state for instance in target.instances()] == [state]


def test_a_restart_that_no_node_can_do_is_an_error(target: SwarmTarget, idle: IdleSwarm) -> None:
    idle.tasks_of_service = [task("running")]
    started = target.start(waiting_release("mill:1"))
    idle.tasks_after_update = [task("shutdown"), task("rejected", 2, Err="No such image: mill:1")]
    with pytest.raises(TargetError, match=r"MILL-1 was not restarted: No such image: mill:1\. Correct the key image"):
        target.restart(started)
