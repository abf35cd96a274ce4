"""A rollout keeps its promises: on real apps as processes, with a factory in a file."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest

from openfactory.assets import Factory
from openfactory.deploy.app import Release, UNSPlace
from openfactory.deploy.plan import Action, Orphan
from openfactory.deploy.record import RecordedStep, recorded_steps
from openfactory.deploy.results import Outcome, Result
from openfactory.deploy.rollout import roll_out
from openfactory.deploy.site import deployment_site
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from openfactory.utils.registering import deregister_asset, register_asset
from plain_deployer import Deployer, outcomes
from plain_target import PlainTarget

Make = Callable[..., Release]


@pytest.fixture
def deployer(plain: PlainTarget, file_url: str, factory: Factory) -> Deployer:
    return Deployer(plain, file_url)


def test_apps_come_up_in_the_order_of_their_dependencies(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    results = deployer.up(release("SAW", depends_on=["PRESS"]), release("PRESS"))
    assert outcomes(results) == {"SAW": Outcome.UP, "PRESS": Outcome.UP}
    assert factory.availability() == {"SAW": "AVAILABLE", "PRESS": "AVAILABLE"}
    assert factory.assets() == {"SAW": "OpenFactoryApp", "PRESS": "OpenFactoryApp", "deployment-hall": "Deployment"}
    claims = {uuid: sighting.owner.epoch for uuid, sighting in factory.owners().items()}
    press_up = next(event for event in factory.history("PRESS", "avail") if event.value == "AVAILABLE")
    assert claims["SAW"] > claims["PRESS"]
    saw_claims = factory.history("SAW", "AssetOwner")
    assert (saw_claims[0].position or 0) > (press_up.position or 0)
    assert results["PRESS"].address == "http://localhost/press"
    assert plain.routes == {"SAW": 1, "PRESS": 1}


def test_a_second_time_nothing_is_done(deployer: Deployer, plain: PlainTarget, release: Make) -> None:
    deployer.up(release("PRESS"), release("SAW"))
    calls = list(plain.calls)
    results = deployer.up(release("PRESS"), release("SAW"))
    assert outcomes(results) == {"PRESS": Outcome.UNCHANGED, "SAW": Outcome.UNCHANGED}
    assert plain.calls == calls
    assert not deployer.plan(release("PRESS"), release("SAW")).differs


def test_only_what_differs_is_changed(deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory) -> None:
    deployer.up(release("PRESS"), release("SAW"))
    owner = factory.owners()["SAW"].owner
    plan = deployer.plan(release("PRESS", "smaller"), release("SAW"))
    assert [step.action for step in plan.steps] == [Action.CHANGE, Action.UNCHANGED]
    assert "environment.WAY changes from an empty text to smaller" in plan.steps[0].reasons
    results = deployer.up(release("PRESS", "smaller"), release("SAW"))
    assert outcomes(results) == {"PRESS": Outcome.UP, "SAW": Outcome.UNCHANGED}
    assert results["PRESS"].generation == 2
    assert results["PRESS"].dropped == ("method release is dropped",)
    assert plain.calls[2:] == [("start", "PRESS", 2), ("stop", "PRESS", 1)]
    assert plain.routes == {"PRESS": 2, "SAW": 1}
    assert factory.owners()["SAW"].owner == owner
    assert factory.availability()["PRESS"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("way", "status", "log"),
    [
        ("exit", 3, "the press is not connected"),
        ("exit after claim", 4, "the oil is missing"),
        ("hang", None, ""),
    ],
)
def test_a_new_version_that_does_not_come_up_is_rolled_back(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory, way: str, status: int | None, log: str
) -> None:
    deployer.up(release("PRESS"))
    deployer.timeout = 10.0 if way == "hang" else 60.0
    result = deployer.up(release("PRESS", way))["PRESS"]
    assert result.outcome is Outcome.ROLLED_BACK, result
    assert result.exit_status == status
    assert result.generation == 1
    assert not log or log in result.log
    assert ("went on" if way == "exit" else "was started again") in result.text
    assert [(instance.generation, instance.state) for instance in plain.instances()] == [(1, "running")]
    assert factory.availability()["PRESS"] == "AVAILABLE"
    assert factory.assets()["PRESS"] == "OpenFactoryApp"
    assert outcomes(deployer.up(release("PRESS"))) == {"PRESS": Outcome.UNCHANGED}


def test_the_old_version_goes_on_until_the_new_one_is_healthy(
    deployer: Deployer, plain: PlainTarget, release: Make
) -> None:
    deployer.up(release("PRESS"))
    plain.is_ready = lambda asked: asked.generation == 1
    deployer.timeout = 5.0
    result = deployer.up(release("PRESS", "smaller"))["PRESS"]
    assert (result.outcome, result.generation) == (Outcome.ROLLED_BACK, 1)
    assert "PRESS is AVAILABLE, and was not healthy within 5 s. Correct the key health" in result.text
    looks: list[list[tuple[str, str, int]]] = []

    def from_the_third_look_on(asked: Release) -> bool:
        looks.append(list(plain.calls))
        return asked.generation == 1 or sum(calls[-1][0] == "start" for calls in looks) > 2

    plain.is_ready = from_the_third_look_on
    deployer.timeout = 60.0
    assert deployer.up(release("PRESS", "smaller"))["PRESS"].outcome is Outcome.UP
    assert plain.calls[-2:] == [("start", "PRESS", 2), ("stop", "PRESS", 1)]


def test_a_new_version_that_ends_soon_after_is_rolled_back(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"))
    result = deployer.up(release("PRESS", "ends later", update={"monitor": "20s"}))["PRESS"]
    assert (result.outcome, result.exit_status, result.generation) == (Outcome.ROLLED_BACK, 5, 3)
    assert "the belt is torn" in result.log
    assert [(instance.generation, instance.state) for instance in plain.instances()] == [(3, "running")]
    assert factory.availability()["PRESS"] == "AVAILABLE"
    assert outcomes(deployer.up(release("PRESS"))) == {"PRESS": Outcome.UNCHANGED}


def test_the_old_version_stops_first_if_the_file_wants_it(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    order = {"order": "stop-first", "monitor": "0s"}
    deployer.up(release("PRESS", update=order))
    assert deployer.up(release("PRESS", "smaller", update=order))["PRESS"].outcome is Outcome.UP
    assert plain.calls[1:] == [("stop", "PRESS", 1), ("start", "PRESS", 2)]
    result = deployer.up(release("PRESS", "exit", update=order))["PRESS"]
    assert result.outcome is Outcome.ROLLED_BACK
    assert "as generation 4" in result.text
    assert factory.availability()["PRESS"] == "AVAILABLE"
    assert outcomes(deployer.up(release("PRESS", "smaller", update=order))) == {"PRESS": Outcome.UNCHANGED}


def test_a_failed_app_leaves_nothing_and_only_those_that_need_it_are_skipped(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    results = deployer.up(
        release("PRESS", "exit after claim"),
        release("SAW", depends_on=["press"]),
        release("ROBOT", depends_on=["SAW"]),
        release("LATHE"),
    )
    assert outcomes(results) == {
        "PRESS": Outcome.FAILED,
        "SAW": Outcome.SKIPPED,
        "ROBOT": Outcome.SKIPPED,
        "LATHE": Outcome.UP,
    }
    assert results["PRESS"].exit_status == 4
    assert "PRESS" in results["SAW"].text
    assert [instance.uuid for instance in plain.instances()] == ["LATHE"]
    assert factory.assets().keys() == {"LATHE", "deployment-hall"}


def test_an_app_that_runs_as_described_is_unchanged_when_one_that_it_needs_is_rolled_back(
    deployer: Deployer, plain: PlainTarget, release: Make
) -> None:
    saw = release("SAW", depends_on=["press"])
    deployer.up(release("PRESS"), saw)
    results = deployer.up(release("PRESS", "exit"), saw)
    assert outcomes(results) == {"PRESS": Outcome.ROLLED_BACK, "SAW": Outcome.UNCHANGED}
    assert [(instance.uuid, instance.generation) for instance in plain.instances()] == [("PRESS", 1), ("SAW", 1)]


def test_an_app_that_cannot_start_fails_with_the_words_of_the_target(deployer: Deployer, release: Make) -> None:
    result = deployer.up(release("PRESS", file="missing.py"))["PRESS"]
    assert (result.outcome, result.text) == (Outcome.FAILED, "PRESS: missing.py does not exist. Write it.")


def test_an_app_that_has_ended_is_started_again(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"))
    plain.kill("PRESS")
    plan = deployer.plan(release("PRESS"))
    assert [(step.action, step.reasons[0]) for step in plan.steps] == [(Action.RESTART, "it has ended with status -9")]
    assert deployer.up(release("PRESS"))["PRESS"].outcome is Outcome.UP
    assert factory.availability()["PRESS"] == "AVAILABLE"


def test_a_condition_is_waited_for_and_can_be_overridden(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    when = {"condition": "PRESS.status == idle", "timeout": "1s"}
    deployer.up(release("PRESS", when=when))
    with factory.asset("PRESS") as press:
        press.status = "busy"
        press.flush()
        result = deployer.up(release("PRESS", "smaller", when=when))["PRESS"]
        assert result.outcome is Outcome.FAILED
        assert "PRESS.status is busy" in result.text
        assert "--now" in result.text
        assert plain.calls == [("start", "PRESS", 1)]
        patient = {**when, "timeout": "5m"}
        done: list[Result] = []
        new = release("PRESS", "smaller", when=patient)
        waiting = threading.Thread(target=lambda: done.extend(deployer.up(new).values()))
        waiting.start()
        said = "waits up to 300 s for PRESS.status == idle: PRESS.status is busy (--now does not wait)"
        eventually(lambda: ("PRESS", said) in deployer.said)
        assert plain.calls == [("start", "PRESS", 1)]
        press.status = "idle"
        waiting.join(60)
        assert [result.outcome for result in done] == [Outcome.UP]
        press.status = "busy"
        press.flush()
    assert deployer.down(now=True)["PRESS"].outcome is Outcome.REMOVED


def test_all_goes_on_that_an_app_needs_whose_condition_does_not_hold(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    """A press that waits for its last part would wait for ever without the saw that commands it."""
    deployer.up(
        release("STORE"),
        release("PRESS", depends_on=["STORE"], when={"condition": "PRESS.status == idle", "timeout": "1s"}),
        release("SAW", depends_on=["PRESS"]),
        release("DRILL"),
    )
    with factory.asset("PRESS") as press:
        press.status = "busy"
        press.flush()
        assert outcomes(deployer.down()) == {
            "DRILL": Outcome.REMOVED,
            "PRESS": Outcome.FAILED,
            "SAW": Outcome.SKIPPED,
            "STORE": Outcome.SKIPPED,
        }
        assert [instance.uuid for instance in plain.instances()] == ["PRESS", "SAW", "STORE"]
        press.status = "idle"
        press.flush()
    assert set(outcomes(deployer.down()).values()) == {Outcome.REMOVED}


def test_an_app_that_has_ended_is_not_waited_for(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    when = {"condition": "PRESS.status == idle", "timeout": "1h"}
    deployer.up(release("PRESS", when=when))
    with factory.asset("PRESS") as press:
        press.status = "busy"
        press.flush()
    plain.kill("PRESS")
    assert deployer.up(release("PRESS", when=when))["PRESS"].outcome is Outcome.UP


def test_an_instance_without_a_file_is_named_and_removed_on_request(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"), release("SAW"))
    results = deployer.up(release("SAW"))
    assert outcomes(results) == {"SAW": Outcome.UNCHANGED, "PRESS": Outcome.LEFT}
    assert "instance without file" in results["PRESS"].text
    assert deployer.plan(release("SAW"), elsewhere=["PRESS"]).steps[1:] == ()
    results = deployer.up(release("SAW"), remove_orphans=True)
    assert outcomes(results) == {"SAW": Outcome.UNCHANGED, "PRESS": Outcome.REMOVED}
    assert [instance.uuid for instance in plain.instances()] == ["SAW"]
    assert factory.assets().keys() == {"SAW", "deployment-hall"}
    assert not deployer.plan(release("SAW")).differs


def test_a_registration_without_an_instance_is_named_and_removed_on_request(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory, file_url: str
) -> None:
    deployer.up(release("PRESS"), release("SAW"))
    plain.stop(plain.instances()[0])
    register_asset("PRESS", None, "OpenFactoryApp", KSQLDBClient(file_url))
    plan = deployer.plan(release("SAW"))
    assert [(step.uuid, step.orphan) for step in plan.steps] == [
        ("SAW", None), ("PRESS", Orphan.REGISTRATION_WITHOUT_INSTANCE),
    ]  # fmt: skip
    assert deployer.up(release("SAW"))["PRESS"].outcome is Outcome.LEFT
    assert deployer.up(release("SAW"), remove_orphans=True)["PRESS"].outcome is Outcome.REMOVED
    assert "PRESS" not in factory.assets()


def test_an_instance_without_a_registration_is_registered_again(
    deployer: Deployer, release: Make, factory: Factory, file_url: str
) -> None:
    deployer.up(release("PRESS"))
    deregister_asset("PRESS", KSQLDBClient(file_url))
    assert deployer.plan(release("PRESS")).steps[0].orphan is Orphan.INSTANCE_WITHOUT_REGISTRATION
    assert deployer.up(release("PRESS"))["PRESS"].outcome is Outcome.REGISTERED
    assert factory.assets()["PRESS"] == "OpenFactoryApp"


def test_an_app_that_runs_elsewhere_is_left_alone(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    other = PlainTarget(plain.project)
    try:
        other.start(release("PRESS"))
        eventually(lambda: factory.availability().get("PRESS") == "AVAILABLE")
        result = deployer.up(release("PRESS"))["PRESS"]
        assert result.outcome is Outcome.FAILED
        assert "does not belong to this deployment. Stop that process first." in result.text
        assert plain.calls == []
    finally:
        other.close()


def test_all_goes_down_in_the_opposite_order(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"), release("SAW", depends_on=["PRESS"]))
    assert outcomes(deployer.down()) == {"PRESS": Outcome.REMOVED, "SAW": Outcome.REMOVED}
    assert plain.calls[2:] == [("stop", "SAW", 1), ("stop", "PRESS", 1)]
    assert plain.instances() == []
    assert factory.assets() == {"deployment-hall": "Deployment"}
    last = {uuid: {event.id: event.value for event in events} for uuid, events in factory.last_events().items()}
    assert (last["SAW"]["avail"], last["PRESS"]["avail"]) == ("UNAVAILABLE", "UNAVAILABLE")
    assert deployer.down() == {}


def test_the_record_is_readable_as_history(deployer: Deployer, release: Make, factory: Factory) -> None:
    deployer.up(release("PRESS"))
    deployer.up(release("PRESS", "exit"))
    deployer.down()
    told = [
        (step.asset, step.action, step.outcome) if isinstance(step, RecordedStep) else step[1]
        for step in recorded_steps(factory, "hall")
    ]
    assert told == [
        "deploying", ("PRESS", "appear", "begins"), ("PRESS", "appear", "up"), "up",
        "deploying", ("PRESS", "change", "begins"), ("PRESS", "change", "rolled back"), "rolled back",
        "taking down", ("PRESS", "vanish", "begins"), ("PRESS", "vanish", "removed"), "down",
    ]  # fmt: skip
    with factory.asset("deployment-hall") as record:
        assert record.type == "Deployment"
        assert record["status"].value == "down"
        assert "the press is not connected" not in str(record.history("step"))


def test_an_interrupted_deployment_undoes_its_step(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"))
    plan = deployer.plan(release("PRESS", "hang"))
    with deployment_site(plain, deployer.url, deployer.store, deployer.say, 60.0) as site:
        results: list[Result] = []
        working = threading.Thread(target=lambda: results.extend(roll_out(site, plan)))
        working.start()
        eventually(lambda: len(plain.instances()) == 2)
        site.cancel()
        working.join(60)
    assert [result.outcome for result in results] == [Outcome.FAILED]
    assert "was interrupted" in results[0].text
    assert [(instance.generation, instance.state) for instance in plain.instances()] == [(1, "running")]
    eventually(lambda: factory.availability()["PRESS"] == "AVAILABLE")


def test_what_a_killed_deployment_has_left_is_cleaned_up(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"))
    plain.start(msgspec.structs.replace(release("PRESS", "hang"), generation=2))
    plan = deployer.plan(release("PRESS"))
    assert [step.action for step in plan.steps] == [Action.CHANGE]
    assert deployer.up(release("PRESS"))["PRESS"].outcome is Outcome.UP
    assert [(instance.generation, instance.state) for instance in plain.instances()] == [(1, "running")]
    assert factory.availability()["PRESS"] == "AVAILABLE"


def test_an_app_gets_its_place_in_the_unified_namespace_and_keeps_its_references(
    deployer: Deployer, release: Make, factory: Factory
) -> None:
    def placed(area: str, way: str = "") -> Release:
        made = release("PRESS", way)
        place = UNSPlace({"area": area, "asset": "press"}, f"{area}/press")
        return msgspec.structs.replace(made, app=msgspec.structs.replace(made.app, uns=place))

    assert deployer.up(placed("hall"))["PRESS"].outcome is Outcome.UP
    assert factory.uns_map() == {"PRESS": "hall/press"}
    with factory.asset("PRESS") as press:
        press.add_reference_above("CELL")
        assert press["area"].value == "hall"
        assert press["DockerService"].value == "press"
        assert deployer.up(placed("yard", "smaller"))["PRESS"].outcome is Outcome.UP
        assert factory.uns_map() == {"PRESS": "yard/press"}
        assert press["references_above"].value == "CELL"
    deployer.down()
    assert "PRESS" not in factory.assets()


def test_replicas_are_whole_assets_that_change_one_after_the_other(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    def replicas(number: int, way: str) -> list[Release]:
        made = release("PRESS", way)
        if number == 1:
            return [made]
        return [
            msgspec.structs.replace(
                made, uuid=f"PRESS-{n}", replica=n, environment={**made.environment, "APP_UUID": f"PRESS-{n}"}
            )
            for n in range(1, number + 1)
        ]

    assert outcomes(deployer.up(*replicas(2, ""))) == {"PRESS-1": Outcome.UP, "PRESS-2": Outcome.UP}
    plain.calls.clear()
    deployer.up(*replicas(2, "smaller"))
    assert plain.calls == [
        ("start", "PRESS-1", 2), ("stop", "PRESS-1", 1), ("start", "PRESS-2", 2), ("stop", "PRESS-2", 1),
    ]  # fmt: skip
    results = deployer.up(*replicas(2, "exit"))
    assert outcomes(results) == {"PRESS-1": Outcome.ROLLED_BACK, "PRESS-2": Outcome.SKIPPED}
    results = deployer.up(*replicas(1, ""))
    assert outcomes(results) == {"PRESS": Outcome.UP, "PRESS-1": Outcome.REMOVED, "PRESS-2": Outcome.REMOVED}
    assert factory.assets().keys() == {"PRESS", "deployment-hall"}


def test_an_interrupted_stop_first_update_has_the_old_version_run_again(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    order = {"order": "stop-first", "monitor": "0s"}
    deployer.up(release("PRESS", update=order))
    plan = deployer.plan(release("PRESS", "hang", update=order))
    with deployment_site(plain, deployer.url, deployer.store, deployer.say, 60.0) as site:
        working = threading.Thread(target=lambda: roll_out(site, plan))
        working.start()
        eventually(lambda: ("start", "PRESS", 2) in plain.calls)
        site.cancel()
        working.join(60)
    assert [instance.state for instance in plain.instances()] == ["running"]
    assert factory.availability()["PRESS"] == "AVAILABLE"
    assert outcomes(deployer.up(release("PRESS", update=order))) == {"PRESS": Outcome.UNCHANGED}


def test_without_rollback_the_old_version_is_not_started_again(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    update = {"rollback": False, "monitor": "0s"}
    deployer.up(release("PRESS", update=update))
    result = deployer.up(release("PRESS", "exit after claim", update=update))["PRESS"]
    assert (result.outcome, result.exit_status) == (Outcome.FAILED, 4)
    eventually(lambda: [instance.state for instance in plain.instances()] == ["exited"])


def test_an_old_version_that_does_not_come_up_either_is_told(
    deployer: Deployer, plain: PlainTarget, release: Make
) -> None:
    deployer.up(release("PRESS"))
    (plain.project.folder / "press.py").write_text("raise SystemExit('the file is broken')")
    result = deployer.up(release("PRESS", "smaller", update={"order": "stop-first", "monitor": "0s"}))["PRESS"]
    assert result.outcome is Outcome.FAILED
    assert "The old version did not come up again either: PRESS has ended with status 1." in result.text
    assert "the file is broken" in result.log


def test_the_routes_of_assets_that_a_deployment_does_not_touch_stay(
    deployer: Deployer, plain: PlainTarget, release: Make
) -> None:
    deployer.up(release("PRESS"), release("SAW"), release("LATHE"))
    results = deployer.up(release("PRESS", "smaller"))
    assert outcomes(results) == {"PRESS": Outcome.UP, "SAW": Outcome.LEFT, "LATHE": Outcome.LEFT}
    assert plain.routes == {"PRESS": 2, "SAW": 1, "LATHE": 1}
    deployer.down(apps={"PRESS"})
    assert plain.routes == {"SAW": 1, "LATHE": 1}
    deployer.down()
    assert plain.routes == {}


def test_a_new_version_that_has_taken_over_before_an_interruption_stays(
    deployer: Deployer, plain: PlainTarget, release: Make, factory: Factory
) -> None:
    deployer.up(release("PRESS"))
    new = msgspec.structs.replace(release("PRESS", "smaller"), generation=2)
    started = plain.start(new)  # by a deployment that was killed then
    eventually(lambda: [instance.state for instance in plain.instances()] == ["exited", "running"])
    eventually(lambda: factory.availability()["PRESS"] == "AVAILABLE")
    result = deployer.up(release("PRESS", "smaller"))["PRESS"]
    assert (result.outcome, result.generation) == (Outcome.UP, 2)
    assert [instance.pid for instance in plain.instances()] == [started.pid]
    kept = deployer.store.last("PRESS")
    assert kept is not None
    assert (kept.release.generation, kept.hash) == (2, new.hash)
