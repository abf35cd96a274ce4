"""A rollout on a real Kafka: the same promises as on a factory in a file, over a log that delivers everything."""

from __future__ import annotations

from pathlib import Path

from openfactory.assets import Factory
from openfactory.deploy.app import Release
from openfactory.deploy.record import RecordedStep, recorded_steps
from openfactory.deploy.results import Outcome
from openfactory.deploy.targets.base import Project
from plain_deployer import Deployer, outcomes
from plain_target import APP, PlainTarget, release_of


def test_apps_come_up_change_roll_back_and_go_down(kafka_url: str, tmp_path: Path) -> None:
    (tmp_path / "press.py").write_text(APP)
    target = PlainTarget(Project("hall", tmp_path))
    deployer = Deployer(target, kafka_url)

    def release(uuid: str, way: str = "", **settings: object) -> Release:
        return release_of(tmp_path, kafka_url, uuid, way, **settings)

    try:
        saw = release("SAW", depends_on=["PRESS"])
        assert outcomes(deployer.up(release("PRESS"), saw)) == {"PRESS": Outcome.UP, "SAW": Outcome.UP}
        assert outcomes(deployer.up(release("PRESS"), saw)) == {"PRESS": Outcome.UNCHANGED, "SAW": Outcome.UNCHANGED}
        with Factory(kafka_url) as factory:
            first = factory.owners()["PRESS"].owner
            result = deployer.up(release("PRESS", "smaller"), saw)["PRESS"]
            assert (result.outcome, result.generation) == (Outcome.UP, 2)
            assert result.dropped == ("method release is dropped",)
            second = factory.owners()["PRESS"].owner
            assert second.epoch > first.epoch
            for way, status in (("exit", 3), ("exit after claim", 4)):
                result = deployer.up(release("PRESS", way), saw)["PRESS"]
                assert (result.outcome, result.exit_status, result.generation) == (Outcome.ROLLED_BACK, status, 2)
                assert factory.availability()["PRESS"] == "AVAILABLE"
            assert outcomes(deployer.down()) == {"PRESS": Outcome.REMOVED, "SAW": Outcome.REMOVED}
            assert factory.assets() == {"deployment-hall": "Deployment"}
            steps = [step for step in recorded_steps(factory, "hall") if isinstance(step, RecordedStep)]
            assert [step.outcome for step in steps if step.asset == "PRESS" and step.outcome != "begins"] == [
                "up", "up", "rolled back", "rolled back", "removed",
            ]  # fmt: skip
    finally:
        target.close()
