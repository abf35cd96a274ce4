"""Checks of one app that concern several of its keys, or files beside its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from openfactory.deploy.conditions import Condition, ConditionError
from openfactory.deploy.files.schema import AppFile, Reservations
from openfactory.deploy.files.sizes import bytes_of
from openfactory.deploy.files.values import assignment, items_of, nearest
from openfactory.deploy.names import MAX_LABEL, normalised_name, replica_uuids
from openfactory.deploy.problems import Problem
from openfactory.deploy.reading.drafts import Draft

__all__ = ["problems_of"]

_PROGRAMS = ("image", "file", "command")
_PROGRAM = "Write exactly one of image (a container), file (a Python file) and command (any program)"

# Kubernetes' bound for the key of a secret; a file system takes hardly more.
_MAX_SECRET = 253


def problems_of(draft: Draft) -> Iterator[Problem]:
    """Yield the problems of an app, apart from those that the schema finds."""
    if draft.settings is not None:
        for check in (_program, _user, _routing, _environment, _resources, _networks, _storage, _files, _when):
            yield from check(draft, draft.settings)


def _program(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    if not draft.usable(*_PROGRAMS):
        return
    given = [name for name in _PROGRAMS if getattr(settings, name) is not None]
    if not given:
        if any(nearest(name, _PROGRAMS) for name in draft.broken):
            return  # a misspelt key
        yield draft.problem(("image",), f"The app has no program. {_PROGRAM}.")
    elif "file" in given and len(given) > 1:
        yield draft.problem(("file",), f"The app has several programs: {' and '.join(given)}. {_PROGRAM}.")


def _when(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    if settings.when is None:
        return
    try:
        Condition.parse(settings.when.condition)
    except ConditionError as error:
        yield draft.problem(("when",), str(error))


def _user(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    if not draft.usable("runtime_uid", "runtime_gid") or (settings.runtime_uid is None) == (
        settings.runtime_gid is None
    ):
        return
    given, other = ("runtime_uid", "runtime_gid") if settings.runtime_gid is None else ("runtime_gid", "runtime_uid")
    yield draft.problem((given,), f"It has no {other} beside it. Write both, or neither.")


def _routing(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    routing = settings.routing
    if routing is None or not routing.expose:
        return
    if routing.port is None and draft.usable("routing.port"):
        yield draft.problem(("routing", "expose"), "The route has no port. Write port: with that of the web pages.")
    if draft.usable("uuid"):
        longest = replica_uuids(settings.uuid, settings.deploy.replicas)[-1]
        yield from _label(draft, ("uuid",), longest)
    if routing.hostname is not None:
        yield from _label(draft, ("routing", "hostname"), routing.hostname)


def _label(draft: Draft, path: tuple[str, ...], text: str) -> Iterator[Problem]:
    label = normalised_name(text)
    if not label:
        yield draft.problem(path, f"{text!r} gives an empty host name. Write a name with letters or digits.")
    elif len(label) > MAX_LABEL:
        yield draft.problem(
            path, f"The host name {label!r} has {len(label)} characters. Write a name of at most {MAX_LABEL}."
        )


def _environment(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    refused = {"APP_UUID": "the key uuid sets it"}
    if settings.routing is not None:
        refused["PORT"] = "the key routing.port sets it"
    if settings.storage:
        refused["STORAGE"] = "the key storage sets it"
    seen: set[str] = set()
    for number, name in _variables_of(draft):
        if reason := refused.get(name):
            yield draft.problem(("environment", number), f"{name} cannot be set here, because {reason}. Take it out.")
        elif name in seen:
            yield draft.problem(("environment", number), f"{name} is there twice. Remove one.")
        seen.add(name)
    for name in settings.secrets:
        if len(name) > _MAX_SECRET:
            text = f"The name has {len(name)} characters. Write at most {_MAX_SECRET}, the bound of Kubernetes."
            yield draft.problem(("secrets", name), text)
        if f"{name}_FILE".upper() in seen:
            text = f"{name.upper()}_FILE is also set in environment, and the secret sets it. Remove one."
            yield draft.problem(("secrets", name), text)


def _variables_of(draft: Draft) -> Iterator[tuple[int, str]]:
    """Yield the names in the environment with their positions, also if other items have problems."""
    try:
        items = items_of(draft.keys.get("environment") or ())
    except ValueError:
        return
    for number, item in enumerate(items):
        with suppress(ValueError):
            yield number, assignment(item).partition("=")[0]


def _resources(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    resources = settings.deploy.resources
    if resources is None or resources.limits is None or resources.reservations is None:
        return
    least, most = _amounts(resources.reservations), _amounts(resources.limits)
    for name in least.keys() & most.keys():
        if least[name] > most[name]:
            yield draft.problem(
                ("deploy", "resources", "reservations", name),
                "The reservation is greater than the limit. Write at most the limit, or raise the limit.",
            )


def _amounts(resources: Reservations) -> dict[str, float]:
    amounts = {
        "cpus": resources.cpus,
        "memory": None if resources.memory is None else bytes_of(resources.memory),
        "open_files": resources.open_files,
    }
    return {name: amount for name, amount in amounts.items() if amount is not None}


def _networks(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    for number, network in enumerate(settings.networks):
        if network in settings.networks[:number]:
            yield draft.problem(("networks", number), f"The network {network} is there twice. Remove one.")


def _storage(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    mounted: dict[str, str] = {}
    for name, storage in settings.storage.items():
        mount_point = str(storage.get("mount_point", "")).strip().rstrip("/")
        if mount_point and mount_point in mounted:
            text = f"The storage {mounted[mount_point]} is mounted at {mount_point} too. Write another mount_point."
            yield draft.problem(("storage", name, "mount_point"), text)
        mounted.setdefault(mount_point, name)


def _files(draft: Draft, settings: AppFile) -> Iterator[Problem]:
    named: list[tuple[tuple[str | int, ...], str | None]] = [(("file",), settings.file)]
    named += [(("env_file", number), name) for number, name in enumerate(settings.env_file)]
    named += [(("secrets", name, "file"), secret.file) for name, secret in settings.secrets.items()]
    folder = draft.document.file.parent
    for path, name in named:
        if name is not None and not _is_file(folder / name):
            yield draft.problem(
                path, f"{str(folder / name)!r} is not a file. Write the path from the folder of this file."
            )


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that no file can have
        return False
