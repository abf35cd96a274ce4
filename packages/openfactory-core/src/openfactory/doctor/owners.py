"""Checks of the processes that own the assets of a factory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from openfactory.concurrency.bounded import call_on_thread
from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.engines.base import Engine
from openfactory.engines.liveness import Liveness
from openfactory.engines.location import Servers
from openfactory.engines.presence import Sight, Sighting
from openfactory.engines.registry import open_engine
from openfactory.events.ownership import OWNER_ID, Owner, owner_in
from openfactory.exceptions import OpenFactoryError

__all__ = ["examine_owners"]

# Seconds to read the state of a factory; the log of a Kafka may be long.
_READ_SECONDS = 10.0

# The claims of an asset that are of interest: those of the last day, and the newest of them.
_RECENT = timedelta(days=1)
_CLAIMS = 20

# Number of assets that a finding names.
_NAMED = 3

# The findings about registered apps whose processes do not run, as far as it can be seen, each with its remedy.
_NOT_RUNNING: Mapping[Sight, tuple[Callable[[str, str], Finding], str, str]] = {
    Sight.ENDED: (failed, "Registered, although their processes have gone", "Start these apps again."),
    Sight.SILENT: (
        failed,
        "Registered, although their processes give no sign of life",
        "Check whether they are suspended, then resume them, or end them and start the apps again.",
    ),
    Sight.UNKNOWN: (
        unchecked,
        "Whether these processes live cannot be seen",
        "On a Kafka, grant READ and DESCRIBE on the groups of owners to all users.",
    ),
}


def examine_owners(factory: Factory) -> Iterator[Finding]:
    """Find registered assets whose processes have gone, and processes that should have gone."""
    found: list[Finding] = []
    examined = call_on_thread("openfactory-doctor-owners", lambda: found.extend(_examine(factory)))
    try:
        examined.result(_READ_SECONDS)
    except TimeoutError:
        yield from list(found)
        yield unchecked("owners", f"The state of the factory was not read in {_READ_SECONDS:g} s.")
    except OpenFactoryError as error:
        yield from found
        yield failed("owners", error)
    else:
        yield from found[1:] or found  # the first tells how many apps run


def _examine(factory: Factory) -> Iterator[Finding]:
    servers = Servers(factory.bootstrap_servers, factory.asset_router_url, factory.credentials)
    with open_engine(factory.url, servers) as reference:
        engine = reference.engine
        if engine.liveness is None:
            yield unchecked("owners", "This engine cannot see other processes.")
            return
        owners = engine.liveness.sightings(engine.snapshot().owners())
        registered = {uuid: owners[uuid] for uuid in engine.types() if uuid in owners}
        running = sum(seen.sight is Sight.LIVES for seen in owners.values())
        yield fine("owners", f"running apps: {running}")
        for sight, (finding, found, remedy) in _NOT_RUNNING.items():
            if apps := {uuid: seen for uuid, seen in registered.items() if seen.sight is sight}:
                yield finding("owners", f"{found}: {_names(apps)}. {remedy}")
        yield from _left(engine, engine.liveness, owners)


def _left(engine: Engine, liveness: Liveness, owners: dict[str, Sighting]) -> Iterator[Finding]:
    """Find processes that have owned a running app before its owner, still live, and run no other app."""
    since = datetime.now(UTC) - _RECENT
    running = {seen.owner.instance for seen in owners.values()}
    for asset_uuid, seen in owners.items():
        if seen.sight is not Sight.LIVES:
            continue
        claims = engine.history(asset_uuid, OWNER_ID, since=since, limit=_CLAIMS)
        earlier = {owner.instance: owner for claim in claims if (owner := owner_in({OWNER_ID: claim})) is not None}
        left = [owner for instance, owner in earlier.items() if instance not in running and _lives(liveness, owner)]
        for owner in left:
            yield failed(
                "owners",
                f"{asset_uuid} was taken over from {owner}, which still lives. "
                "Check why that process has not stopped, and end it.",
            )


def _lives(liveness: Liveness, owner: Owner) -> bool:
    sight = liveness.look(owner)
    # Where an end is seen late, silence is the end of a process; elsewhere it is a process that is frozen.
    return sight is Sight.LIVES or (sight is Sight.SILENT and not liveness.presence.lag)


def _names(owners: dict[str, Sighting]) -> str:
    names = [f"{uuid} ({seen.owner.ended or seen.owner})" for uuid, seen in list(owners.items())[:_NAMED]]
    return ", ".join(names) + (f" and {len(owners) - _NAMED} more" if len(owners) > _NAMED else "")
