"""A deployment without the command line, for the tests of rollouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.plan import Plan
from openfactory.deploy.planning import Known, plan_of_releases, plan_of_removal
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
        return plan_of_releases(self._known(releases), releases, elsewhere=elsewhere)

    def up(self, *releases: Release, **options: Any) -> dict[str, Result]:
        plan = self.plan(*releases)
        with deployment_site(self.target, self.url, self.store, self.say, self.timeout) as site:
            return {result.uuid: result for result in roll_out(site, plan, **options)}

    def down(self, apps: Collection[str] | None = None, **options: Any) -> dict[str, Result]:
        plan = plan_of_removal(self._known(()), apps=apps)
        with deployment_site(self.target, self.url, self.store, self.say, self.timeout) as site:
            return {result.uuid: result for result in take_down(site, plan, **options)}

    def say(self, uuid: str, text: str) -> None:
        self.said.append((uuid, text))

    def _known(self, releases: Collection[Release]) -> Known:
        instances = self.target.instances()
        deployed = {uuid: kept.release for uuid, kept in self.store.all_last().items()}
        uuids = {release.uuid for release in releases} | {instance.uuid for instance in instances} | {*deployed}
        with open_engine(self.url) as reference:
            return Known("hall", "plain", instances, registered_assets(reference.engine, uuids), deployed)


def outcomes(results: Mapping[str, Result]) -> dict[str, Outcome]:
    """Return how the steps have ended, by UUID."""
    return {uuid: result.outcome for uuid, result in results.items()}
