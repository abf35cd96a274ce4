"""A plan tells what happens to each asset, and why: tables of files, instances and registrations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openfactory.assets import Owner
from openfactory.deploy.app import Release, UNSPlace
from openfactory.deploy.plan import Action, Orphan, Step
from openfactory.deploy.planning import Known, current_instances, plan_of_releases, plan_of_removal, plan_of_restart
from openfactory.deploy.registered import RegisteredAsset
from openfactory.deploy.targets.base import Instance, InstanceState
from plain_target import app_of

FOLDER = Path("/hall")


def release(uuid: str = "MILL", generation: int = 1, **settings: Any) -> Release:
    """A release of an app."""
    app = app_of(FOLDER, uuid, **settings)
    return Release(app, uuid, 1, {"APP_UUID": uuid}, {}, (), generation)


def instance(of: Release, state: InstanceState = InstanceState.RUNNING, **facts: Any) -> Instance:
    """The instance of a release."""
    made = Instance(of.uuid, of.app.settings.uuid, of.hash, of.generation, state)
    return msgspec.structs.replace(made, **facts)


def asset(
    uuid: str = "MILL", *, ended: str | None = None, lives: bool = True, pid: int = 42, **facts: Any
) -> RegisteredAsset:
    """An asset that is up."""
    owner = Owner("i", 7, 0, "host", pid, "2026-11-21T07:30:00.000Z", ended=ended)
    present = {"type": "OpenFactoryApp", "availability": "AVAILABLE", "owner": owner, "lives": lives, **facts}
    return RegisteredAsset(uuid, **present)


def known(
    instances: list[Instance], assets: Mapping[str, RegisteredAsset], deployed: Mapping[str, Release] = {}
) -> Known:
    """The facts of a project."""
    return Known("hall", "process", instances, assets, deployed)


def only_step(
    releases: list[Release],
    instances: list[Instance],
    assets: list[RegisteredAsset],
    deployed: Mapping[str, Release] = {},
    **more: Any,
) -> Step:
    """The only step of a plan."""
    facts = {found.uuid: found for found in assets}
    (step,) = plan_of_releases(known(instances, facts, deployed), releases, **more).steps
    return step


OLD, NEW = release(environment=["SPEED=1"]), release(image="mill:2", file=None, environment=["SPEED=2"])


@pytest.mark.parametrize(
    ("instances", "assets", "action", "reason"),
    [
        ([], [], Action.APPEAR, "it is new"),
        ([], [asset(ended="stopped", type=None)], Action.APPEAR, "it does not run: stopped"),
        ([], [asset(ended="killed")], Action.APPEAR, "it is registered as OpenFactoryApp, and does not run"),
        ([], [asset()], Action.APPEAR, "process 42 on host host runs it, outside of this deployment"),
        ([instance(OLD)], [asset()], Action.UNCHANGED, ""),
        ([instance(OLD)], [asset(availability="UNAVAILABLE")], Action.UNCHANGED, "it runs, and is not AVAILABLE yet"),
        ([instance(OLD)], [], Action.UNCHANGED, "it runs, and is not AVAILABLE yet"),
        (
            [instance(OLD)],
            [asset(type=None)],
            Action.ORPHAN,
            "it is AVAILABLE, and not registered: it is registered again",
        ),
        ([instance(OLD, InstanceState.EXITED, exit_status=3)], [asset()], Action.RESTART, "it has ended with status 3"),
        ([instance(NEW)], [asset()], Action.CHANGE, "its file has changed"),
        (
            [instance(OLD), instance(OLD, generation=2)],
            [asset()],
            Action.CHANGE,
            "a deployment was interrupted: generation 1 runs beside 2",
        ),
    ],
)
def test_an_asset_of_a_file(
    instances: list[Instance], assets: list[RegisteredAsset], action: Action, reason: str
) -> None:
    step = only_step([OLD], instances, assets)
    assert (step.action, (*step.reasons, "")[0]) == (action, reason)
    assert bool(step.blocked) == ("outside" in reason)


def test_a_place_that_is_not_registered_is_named() -> None:
    placed = msgspec.structs.replace(OLD, app=msgspec.structs.replace(OLD.app, uns=UNSPlace({}, "hall/mill")))
    step = only_step([placed], [instance(placed)], [asset(uns_id="yard/mill")])
    assert step.orphan is Orphan.INSTANCE_WITHOUT_REGISTRATION
    assert step.reasons == ("its place in the unified namespace is yard/mill: it becomes hall/mill",)
    assert only_step([placed], [instance(placed)], [asset(uns_id="hall/mill")]).action is Action.UNCHANGED


def test_a_change_is_told_in_the_words_of_the_file() -> None:
    step = only_step([NEW], [instance(OLD)], [asset()], deployed={"MILL": OLD})
    assert step.reasons == (
        "file is removed, it was press.py",
        "image is mill:2 now",
        "the new version takes over when it has started",
    )


def test_no_value_of_a_secret_is_told() -> None:
    old = msgspec.structs.replace(OLD, secrets={"password": "swordfish", "token": "a"})
    new = msgspec.structs.replace(OLD, secrets={"password": "marlin", "key": "b"})
    step = only_step([new], [instance(old)], [asset()], deployed={"MILL": old})
    assert step.reasons[:2] == ("secrets.token is removed", "secrets.key is new")
    same = msgspec.structs.replace(old, secrets={"password": "marlin", "token": "a"})
    step = only_step([same], [instance(old)], [asset()], deployed={"MILL": old})
    assert step.reasons[0] == "a secret has another value"


def test_the_release_that_was_up_is_the_one_that_is_kept_after_an_interrupted_deployment() -> None:
    instances = [instance(OLD), instance(NEW, generation=2)]
    step = only_step([NEW], instances, [asset()], deployed={"MILL": OLD})
    assert (step.instance, step.stale) == (instances[0], (instances[1],))


@pytest.mark.parametrize(
    ("states", "found", "deployed", "expected"),
    [
        ("running running", asset(), 1, 1),  # the one that was up last
        ("running running", asset(), None, 2),  # the newest
        ("running running", asset(pid=12), 1, 2),  # the one that owns the asset
        ("running running", asset(pid=12, availability="UNAVAILABLE"), 1, 1),
        ("running running", asset(pid=12, ended="killed"), 1, 1),
        ("restarting running", asset(), 1, 2),  # the new one has taken the asset over, and is not kept yet
        ("exited running", asset(), 1, 2),
        ("exited running", asset(availability="UNAVAILABLE"), 1, 1),
        ("exited running", None, 1, 1),
        ("running exited", asset(), None, 1),
    ],
)
def test_all_commands_agree_on_the_instance_that_an_interrupted_deployment_has_left_at_work(
    states: str, found: RegisteredAsset | None, deployed: int | None, expected: int
) -> None:
    first, second = map(InstanceState, states.split())
    instances = [instance(OLD, first, pid=11), instance(NEW, second, generation=2, pid=12)]
    kept = {} if deployed is None else {"MILL": release(generation=deployed)}
    facts = known(instances, {} if found is None else {"MILL": found}, kept)
    plans = [
        plan_of_releases(facts, [NEW]),
        plan_of_releases(facts, []),  # an orphan
        plan_of_restart(facts, ["MILL"]),
        plan_of_removal(facts),
    ]
    for plan in plans:
        (step,) = plan.steps
        assert step.instance is not None
        assert (step.instance.generation, [other.generation for other in step.stale]) == (expected, [3 - expected])
    assert current_instances(facts)["MILL"].generation == expected


def test_a_replica_too_many_vanishes_and_an_app_without_a_file_is_an_orphan() -> None:
    mill = release()
    replica = Instance("MILL-2", "MILL", "x", 1, InstanceState.RUNNING)
    saw = instance(release("SAW"))
    plan = plan_of_releases(known([instance(mill), replica, saw], {"MILL": asset()}), [mill])
    assert [(step.uuid, step.action, step.orphan) for step in plan.steps] == [
        ("MILL", Action.UNCHANGED, None),
        ("MILL-2", Action.VANISH, None),
        ("SAW", Action.ORPHAN, Orphan.INSTANCE_WITHOUT_FILE),
    ]
    elsewhere = plan_of_releases(known([instance(mill), saw], {"MILL": asset()}), [mill], elsewhere={"SAW"})
    assert [step.uuid for step in elsewhere.steps] == ["MILL"]
    assert not elsewhere.differs


@pytest.mark.parametrize(
    ("found", "orphans"),
    [
        (asset("SAW", ended="killed"), ["SAW"]),
        (asset("SAW"), []),  # another process runs it
        (asset("SAW", ended="stopped", type=None), []),
    ],
)
def test_a_registration_that_a_deployment_has_left_is_an_orphan(found: RegisteredAsset, orphans: list[str]) -> None:
    plan = plan_of_releases(known([], {"SAW": found}, {"SAW": release("SAW")}), [])
    assert [step.uuid for step in plan.steps] == orphans
    assert all(step.orphan is Orphan.REGISTRATION_WITHOUT_INSTANCE for step in plan.steps)


def test_an_asset_that_was_never_deployed_here_is_no_orphan() -> None:
    assert plan_of_releases(known([], {"SAW": asset("SAW", ended="killed")}), []).steps == ()


def test_dependencies_are_named_by_the_app_or_its_uuid() -> None:
    releases = [release("SAW", depends_on=["mill", "LATHE"]), release("MILL"), release("LATHE")]
    plan = plan_of_releases(known([], {}), releases)
    assert plan.steps[0].depends_on == ("MILL", "LATHE")


def test_what_is_dropped_stands_in_the_step() -> None:
    step = only_step([NEW], [instance(OLD)], [asset()], drops={"MILL": ["method jog is dropped"]})
    assert (step.drops, step.unknown_drops) == (("method jog is dropped",), False)
    assert only_step([NEW], [instance(OLD)], [asset()], drops={"MILL": None}).unknown_drops
    assert not only_step([OLD], [instance(OLD)], [asset()], drops={"MILL": None}).unknown_drops


def test_a_removal_has_the_instances_and_what_is_left_of_others() -> None:
    mill, saw = release("MILL"), release("SAW")
    facts = {"MILL": asset(), "SAW": asset("SAW", ended="killed")}
    deployed = {"MILL": mill, "SAW": saw}
    plan = plan_of_removal(known([instance(mill)], facts, deployed))
    assert [(step.uuid, step.action) for step in plan.steps] == [("MILL", Action.VANISH), ("SAW", Action.VANISH)]
    plan = plan_of_removal(known([instance(mill)], facts, deployed), apps={"MILL"})
    assert [step.uuid for step in plan.steps] == ["MILL"]
