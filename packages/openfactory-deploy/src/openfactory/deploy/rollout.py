"""The rollout: a plan becomes true, in the order of the apps' dependencies, independent apps beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from openfactory.deploy.ordering import run_in_order
from openfactory.deploy.plan import Action, Orphan, Plan, Step
from openfactory.deploy.results import Outcome, Result
from openfactory.deploy.site import Site
from openfactory.deploy.steps import StepRunner

__all__ = ["roll_out", "take_down"]


def roll_out(site: Site, plan: Plan, *, now: bool = False, remove_orphans: bool = False) -> list[Result]:
    """Make a plan true, and return how each step has ended, in the order of the plan.

    An app is touched when the apps that it depends on are up. If one of them is not, it is skipped, and the others go
    on. The replicas of an app follow each other. Assets vanish at the end.

    Args:
        site: the place of the deployment.
        plan: the plan.
        now: do not wait for the conditions of apps.
        remove_orphans: remove instances and registrations that no file has.
    """
    runner = StepRunner(site, now=now, remove_orphans=remove_orphans)
    vanishing = [step for step in plan.steps if _vanishes(step)]
    coming = [step for step in plan.steps if not _vanishes(step)]
    for step in coming:
        if step.instance is not None and step.release is not None:
            site.note_routed(step.release)
    site.record.begin("deploying")
    results: dict[str, Result] = {}
    try:
        _run(site, runner, coming, {step.app: step.depends_on for step in coming}, results)
        _run(site, runner, vanishing, {}, results)
        site.apply_routes()
    finally:
        site.record.end(_status(results.values(), len(plan.steps)))
    return [_with_address(site, results[step.uuid]) for step in plan.steps]


def take_down(site: Site, plan: Plan, *, now: bool = False) -> list[Result]:
    """Have all assets of a plan vanish, each after those that depend on it, and return how each step has ended.

    No asset is stopped before the conditions of all hold: a machine that waits to be idle still needs those who command
    it. If the condition of an asset does not hold in time, the asset goes on, with those that depend on it and those on
    which it depends.
    """
    runner = StepRunner(site, now=now)
    after: dict[str, set[str]] = {}
    for step in plan.steps:
        for other in step.depends_on:
            after.setdefault(other, set()).add(step.app)
    site.record.begin("taking down")
    results: dict[str, Result] = {}
    try:
        _run(site, runner, plan.steps, {step.app: step.depends_on for step in plan.steps}, results, runner.obstacle)
        _run(site, runner, plan.steps, after, results, lambda step: results.get(step.uuid) or runner.run(step))
        site.apply_routes()
    finally:
        failed = any(result.outcome.is_failure for result in results.values()) or len(results) < len(plan.steps)
        site.record.end("failed" if failed else "down")
    return [results[step.uuid] for step in plan.steps]


def _run(
    site: Site,
    runner: StepRunner,
    steps: Iterable[Step],
    after: Mapping[str, Iterable[str]],
    results: dict[str, Result],
    do: Callable[[Step], Result | None] | None = None,
) -> None:
    """Do steps, those of one app after each other.

    Args:
        site: the place of the deployment.
        runner: runner of the steps.
        steps: the steps.
        after: by app, the apps that succeed before.
        results: gets the results by UUID.
        do: called in place of `runner.run`; it returns None if the step is only prepared.
    """
    do = do or runner.run
    by_app: dict[str, list[Step]] = {}
    for step in steps:
        by_app.setdefault(step.app, []).append(step)

    def task(of_one: list[Step]) -> Callable[[], bool]:
        def run() -> bool:
            cause = ""
            for step in of_one:
                result = runner.skip(step, cause) if cause else do(step)
                if result is not None:
                    results[step.uuid] = result
                    if result.outcome.is_failure:
                        cause = cause or step.uuid
            return not cause

        return run

    def skip(app: str, cause: str) -> None:
        for step in by_app[app]:
            if step.uuid not in results:
                results[step.uuid] = runner.skip(step, cause)

    run_in_order(
        {app: task(of_one) for app, of_one in by_app.items()},
        {app: set(others) for app, others in after.items()},
        skip,
        site.cancel,
    )


def _vanishes(step: Step) -> bool:
    return step.action is Action.VANISH or step.orphan in (
        Orphan.INSTANCE_WITHOUT_FILE,
        Orphan.REGISTRATION_WITHOUT_INSTANCE,
    )


def _with_address(site: Site, result: Result) -> Result:
    return msgspec.structs.replace(result, address=site.addresses.get(result.uuid))


def _status(results: Iterable[Result], number: int) -> str:
    outcomes = [result.outcome for result in results]
    if len(outcomes) < number:
        return "interrupted"
    if any(outcome.is_failure for outcome in outcomes):
        return "rolled back" if Outcome.FAILED not in outcomes and Outcome.SKIPPED not in outcomes else "failed"
    return "up"
