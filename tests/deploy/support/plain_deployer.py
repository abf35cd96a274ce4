"""A deployment without the command line, for the tests of rollouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.plan import Plan
from openfactory.deploy.planning import plan_of_releases, plan_of_removal
from openfactory.deploy.registered import registered_assets
from openfactory.deploy.releases import ReleaseStore
from openfactory.deploy.results import Outcome, Result
from openfactory.deploy.rollout import roll_out, take_down
from openfactory.deploy.site import deployment_site
from openfactory.engines.registry import open_engine
from plain_target import PlainTarget


class Deployer:
    """Plans and rolls out on a target, as `ofa apps up` does."""

    def __init__(self, target: PlainTarget, url: str) -> None:
        self.target = target
        self.url = url
        self.store = ReleaseStore(target.project.folder / ".openfactory", target.name)
        self.said: list[tuple[str, str]] = []
        self.timeout = 60.0

    def plan(self, *releases: Release, elsewhere: Collection[str] = ()) -> Plan:
        return plan_of_releases(
            "hall", "plain", releases, self.target.instances(), self._facts(releases),
            deployed=self._deployed(), elsewhere=elsewhere,
        )  # fmt: skip

    def up(self, *releases: Release, **options: Any) -> dict[str, Result]:
        plan = self.plan(*releases)
        with deployment_site(self.target, self.url, self.store, self.say, self.timeout) as site:
            return {result.uuid: result for result in roll_out(site, plan, **options)}

    def down(self, **options: Any) -> dict[str, Result]:
        plan = plan_of_removal("hall", "plain", self.target.instances(), self._facts(()), deployed=self._deployed())
        with deployment_site(self.target, self.url, self.store, self.say, self.timeout) as site:
            return {result.uuid: result for result in take_down(site, plan, **options)}

    def say(self, uuid: str, text: str) -> None:
        self.said.append((uuid, text))

    def _deployed(self) -> Mapping[str, Release]:
        return {uuid: kept.release for uuid, kept in self.store.all_last().items()}

    def _facts(self, releases: Collection[Release]) -> dict[str, Any]:
        uuids = {release.uuid for release in releases} | {i.uuid for i in self.target.instances()} | {*self._deployed()}
        with open_engine(self.url) as reference:
            return registered_assets(reference.engine, uuids)


def outcomes(results: Mapping[str, Result]) -> dict[str, Outcome]:
    """Return how the steps have ended, by UUID."""
    return {uuid: result.outcome for uuid, result in results.items()}
