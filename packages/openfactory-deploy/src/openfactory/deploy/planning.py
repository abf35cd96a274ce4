"""The making of plans: the files, the instances that run, and the registered assets are compared. Values, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from openfactory.deploy.app import App, Release
from openfactory.deploy.plan import Action, Orphan, Plan, Step
from openfactory.deploy.reading.dependencies import dependencies_of
from openfactory.deploy.registered import RegisteredAsset
from openfactory.deploy.release_changes import changes
from openfactory.deploy.targets.base import Instance, InstanceState

__all__ = ["Known", "current_instances", "plan_of_releases", "plan_of_removal", "plan_of_restart", "plan_of_return"]


class Known(msgspec.Struct, frozen=True):
    """The facts of which plans are made, beside the files.

    Attributes:
        project: name of the project.
        target: name of the target.
        instances: instances of the project on the target.
        assets: facts of the factory, by UUID.
        deployed: last release of each asset that has been up on the target, by UUID.
    """

    project: str
    target: str
    instances: Sequence[Instance]
    assets: Mapping[str, RegisteredAsset]
    deployed: Mapping[str, Release] = {}


def current_instances(known: Known) -> dict[str, Instance]:
    """Return the instance of each asset that is at work, by UUID; an interrupted deployment may have left others."""
    found = {}
    for uuid, of_one in _by_uuid(known.instances).items():
        current, _ = _current(of_one, known.deployed.get(uuid), known.assets.get(uuid))
        if current is not None:
            found[uuid] = current
    return found


def plan_of_releases(
    known: Known,
    releases: Sequence[Release],
    *,
    elsewhere: Collection[str] = (),
    drops: Mapping[str, Sequence[str] | None] = {},
) -> Plan:
    """Return the plan by which the files become true.

    Args:
        known: the facts.
        releases: all replicas of all apps of the files.
        elsewhere: UUIDs of apps whose files were not read, which are left alone.
        drops: by UUID, what the new version drops; None if that is known after the start only.
    """
    assets, deployed = known.assets, known.deployed
    running = _by_uuid(known.instances)
    apps = {release.app.settings.uuid: release.app for release in releases}
    steps = []
    for release in releases:
        step = _wanted(release, running.pop(release.uuid, ()), assets.get(release.uuid), deployed.get(release.uuid))
        found = drops.get(release.uuid, ())
        steps.append(
            msgspec.structs.replace(
                step,
                drops=tuple(found or ()),
                unknown_drops=found is None and step.action is Action.CHANGE,
                depends_on=_needed(release.app, apps.values()),
            )
        )
    for uuid, of_one in sorted(running.items()):
        app = of_one[-1].app
        if app not in elsewhere:
            steps.append(_unwanted(uuid, of_one, assets.get(uuid), deployed.get(uuid), is_replica=app in apps))
    planned = {*running, *(release.uuid for release in releases)}
    steps += [step for step in _leftovers(deployed, assets) if step.uuid not in planned and step.app not in elsewhere]
    return Plan(known.project, known.target, tuple(steps))


def plan_of_removal(known: Known, *, apps: Collection[str] | None = None) -> Plan:
    """Return the plan by which instances and their registrations vanish.

    Args:
        known: the facts.
        apps: UUIDs of the apps that vanish; all of the project by default.
    """
    assets, deployed = known.assets, known.deployed
    running = _by_uuid(instance for instance in known.instances if apps is None or instance.app in apps)
    deployed_apps = {release.app.settings.uuid: release.app for release in deployed.values()}
    steps = []
    for uuid, of_one in sorted(running.items()):
        release, asset = deployed.get(uuid), assets.get(uuid)
        instance, stale = _current(of_one, release, asset)
        steps.append(
            Step(
                uuid=uuid,
                app=of_one[-1].app,
                action=Action.VANISH,
                reasons=("it is taken down",),
                release=release,
                instance=instance,
                stale=stale,
                asset=asset,
                depends_on=() if release is None else _needed(release.app, deployed_apps.values()),
            )
        )
    steps += [
        msgspec.structs.replace(step, action=Action.VANISH)
        for step in _leftovers(deployed, assets)
        if step.uuid not in running and (apps is None or step.app in apps)
    ]
    return Plan(known.project, known.target, tuple(steps))


def plan_of_restart(known: Known, uuids: Collection[str]) -> Plan:
    """Return the plan by which instances of some assets are started again, in the order of their dependencies."""
    plan = plan_of_removal(known)
    steps = (
        msgspec.structs.replace(step, action=Action.RESTART, reasons=("its restart is asked for",))
        for step in plan.steps
        if step.instance is not None and step.uuid in uuids
    )
    return msgspec.structs.replace(plan, steps=tuple(steps))


def plan_of_return(known: Known, releases: Sequence[Release]) -> Plan:
    """Return the plan by which earlier releases run again; assets without one are left alone."""
    plan = plan_of_releases(known, releases)
    uuids = {release.uuid for release in releases}
    return msgspec.structs.replace(plan, steps=tuple(step for step in plan.steps if step.uuid in uuids))


def _needed(app: App, apps: Iterable[App]) -> tuple[str, ...]:
    """Return the UUIDs of the apps on which an app depends."""
    return tuple(one.settings.uuid for one in dependencies_of(app, list(apps)))


def _by_uuid(instances: Iterable[Instance]) -> dict[str, tuple[Instance, ...]]:
    """Return the instances of each asset, the newest last."""
    found: dict[str, tuple[Instance, ...]] = {}
    for instance in sorted(instances, key=lambda instance: (instance.uuid, instance.generation)):
        found[instance.uuid] = (*found.get(instance.uuid, ()), instance)
    return found


def _wanted(
    release: Release, instances: tuple[Instance, ...], asset: RegisteredAsset | None, last: Release | None
) -> Step:
    """Return the step of an asset that a file has."""
    action, reasons, orphan, blocked = Action.UNCHANGED, [], None, ""
    instance, stale = _current(instances, last, asset)
    if instance is None:
        action, reasons, blocked = Action.APPEAR, *_appearance(asset)
    elif instance.hash != release.hash:
        action = Action.CHANGE
        reasons = ["its file has changed"] if last is None else changes(last, release)
        reasons.append(_order(release))
    elif instance.state is InstanceState.EXITED:
        action, reasons = Action.RESTART, [_end(instance)]
    elif asset is not None and asset.is_up and (missing := _unregistered(release, asset)):
        action, reasons, orphan = Action.ORPHAN, [missing], Orphan.INSTANCE_WITHOUT_REGISTRATION
    elif asset is None or not asset.is_up:
        reasons = ["it runs, and is not AVAILABLE yet"]
    if instance is not None and stale:
        others = ", ".join(str(other.generation) for other in stale)
        reasons.append(f"a deployment was interrupted: generation {others} runs beside {instance.generation}")
        action = Action.CHANGE if action is Action.UNCHANGED else action
    return Step(
        uuid=release.uuid,
        app=release.app.settings.uuid,
        action=action,
        reasons=tuple(reasons),
        orphan=orphan,
        release=release,
        instance=instance,
        stale=stale,
        asset=asset,
        blocked=blocked,
    )


def _unregistered(release: Release, asset: RegisteredAsset) -> str:
    """Return the part of the registration that an asset which is up does not have; empty if it has all."""
    if asset.type is None:
        return "it is AVAILABLE, and not registered: it is registered again"
    place = release.uns
    if place is not None and asset.uns_id != place.uns_id:
        return f"its place in the unified namespace is {asset.uns_id or 'not registered'}: it becomes {place.uns_id}"
    return ""


def _current(
    instances: tuple[Instance, ...], last: Release | None, asset: RegisteredAsset | None
) -> tuple[Instance | None, tuple[Instance, ...]]:
    """Return the instance that an interrupted deployment has left at work, and the other instances.

    It is the one whose process owns the asset which is AVAILABLE, as far as that is known: else the one of the release
    that has been up last, unless only another one runs; else the newest one.
    """
    if not instances:
        return None, ()
    is_up = asset is not None and asset.is_up
    running = [instance for instance in instances if is_up and instance.state is InstanceState.RUNNING]
    owner = None if asset is None or asset.owner is None else asset.owner.pid
    owning = [instance for instance in running if instance.pid is not None and instance.pid == owner]
    kept = [instance for instance in instances if last is not None and instance.generation == last.generation]
    working = [instance for instance in kept if not running or instance in running]
    current = (owning or working or running or kept or instances)[-1]
    return current, tuple(instance for instance in instances if instance is not current)


def _appearance(asset: RegisteredAsset | None) -> tuple[list[str], str]:
    """Return why an asset appears, and why it cannot."""
    if asset is None:
        return ["it is new"], ""
    if asset.owner is not None and asset.owner.ended is None and asset.lives:
        return (
            [f"{asset.owner} runs it, outside of this deployment"],
            f"{asset.uuid} is run by {asset.owner}, which does not belong to this deployment. Stop that process first.",
        )
    if asset.type is not None:
        return [f"it is registered as {asset.type}, and does not run"], ""
    ended = "" if asset.owner is None or asset.owner.ended is None else f": {asset.owner.ended}"
    return [f"it does not run{ended}"], ""


def _unwanted(
    uuid: str, instances: tuple[Instance, ...], asset: RegisteredAsset | None, last: Release | None, *, is_replica: bool
) -> Step:
    """Return the step of an instance that no file has."""
    reason = "its app has fewer replicas now" if is_replica else "it runs, and no file describes it"
    instance, stale = _current(instances, last, asset)
    return Step(
        uuid=uuid,
        app=instances[-1].app,
        action=Action.VANISH if is_replica else Action.ORPHAN,
        orphan=None if is_replica else Orphan.INSTANCE_WITHOUT_FILE,
        reasons=(reason,),
        release=last,
        instance=instance,
        stale=stale,
        asset=asset,
    )


def _leftovers(deployed: Mapping[str, Release], assets: Mapping[str, RegisteredAsset]) -> Iterator[Step]:
    """Yield the steps of the assets that were deployed and are still registered, although no process owns them."""
    for uuid, release in sorted(deployed.items()):
        asset = assets.get(uuid)
        if asset is not None and asset.type is not None and not asset.has_owner:
            yield Step(
                uuid=uuid,
                app=release.app.settings.uuid,
                action=Action.ORPHAN,
                orphan=Orphan.REGISTRATION_WITHOUT_INSTANCE,
                reasons=(f"it is registered as {asset.type}, and nothing runs it",),
                release=release,
                asset=asset,
            )


def _order(release: Release) -> str:
    if release.app.settings.update.order == "stop-first":
        return "the old version stops first: commands wait or expire meanwhile"
    return "the new version takes over when it has started"


def _end(instance: Instance) -> str:
    status = "" if instance.exit_status is None else f" with status {instance.exit_status}"
    return f"it has ended{status}"
