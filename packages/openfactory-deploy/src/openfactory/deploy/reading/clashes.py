"""Checks among all apps: UUIDs and host names that two of them have, and dependencies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from openfactory.deploy.app import App
from openfactory.deploy.files.document import KeyPath
from openfactory.deploy.files.values import nearest
from openfactory.deploy.names import normalised_name, replica_uuids
from openfactory.deploy.problems import Place, Problem
from openfactory.deploy.reading.dependencies import apps_meant, cycle_among
from openfactory.deploy.reading.drafts import Draft

__all__ = ["clashes_among"]


def clashes_among(drafts: Sequence[Draft]) -> Iterator[Problem]:
    """Yield the problems among apps."""
    usable = [draft for draft in drafts if draft.settings is not None]
    yield from _uuids(usable)
    yield from _host_names(usable)
    yield from _dependencies(usable, {draft.name for draft in drafts if draft.settings is None})


def _uuids(drafts: Sequence[Draft]) -> Iterator[Problem]:
    seen: dict[str, tuple[Draft, str]] = {}
    for draft in drafts:
        if not draft.usable("uuid"):
            continue
        for uuid in _uuids_of(draft):
            other, others_uuid = seen.setdefault(uuid.lower(), (draft, uuid))
            if other is not draft:
                case = "" if uuid == others_uuid else ", which differs in capital letters only"
                yield draft.problem(
                    ("uuid",),
                    f"The asset {uuid} is also {others_uuid} of the app {other.name} in "
                    f"{_place(other, ('uuid',))}{case}. Give each app a UUID of its own.",
                )
                break


def _uuids_of(draft: Draft) -> tuple[str, ...]:
    assert draft.settings is not None
    return replica_uuids(draft.settings.uuid, draft.settings.deploy.replicas)


def _host_names(drafts: Sequence[Draft]) -> Iterator[Problem]:
    seen: dict[str, tuple[Draft, KeyPath, str]] = {}
    for draft in drafts:
        for path, text in _names_of(draft):
            label = normalised_name(text)
            other, others_path, others_text = seen.setdefault(label, (draft, path, text))
            is_same_uuid = path == others_path == ("uuid",) and text.lower() == others_text.lower()
            if label and other is not draft and not is_same_uuid:
                yield draft.problem(
                    path,
                    f"The host name {label} is also that of the app {other.name}, which has {others_text!r} in "
                    f"{_place(other, others_path)}. Write another name.",
                )


def _names_of(draft: Draft) -> Iterator[tuple[KeyPath, str]]:
    """Yield the texts of the host names of an exposed app, with their keys."""
    settings = draft.settings
    if settings is None or settings.routing is None or not settings.routing.expose:
        return
    if draft.usable("uuid"):
        for uuid in dict.fromkeys((settings.uuid, *_uuids_of(draft))):
            yield ("uuid",), uuid
    if settings.routing.hostname is not None:
        yield ("routing", "hostname"), settings.routing.hostname


def _dependencies(drafts: Sequence[Draft], unusable: Set[str]) -> Iterator[Problem]:
    apps = [draft.app() for draft in drafts]
    is_right = True
    for draft in drafts:
        assert draft.settings is not None
        for number, wanted in enumerate(draft.settings.depends_on):
            meant = apps_meant(wanted, draft.document.file, apps)
            if len(meant) != 1 and wanted not in unusable:
                is_right = False
                yield draft.problem(("depends_on", number), _not_one(wanted, len(meant), apps))
    if is_right and (cycle := cycle_among(apps)):
        draft = next(one for one in drafts if one.name == cycle[0].name and one.document.file == cycle[0].place.file)
        circle = " → ".join(app.name for app in cycle)
        yield draft.problem(("depends_on",), f"The apps depend on each other in a circle: {circle}. Take one out.")


def _not_one(wanted: str, number: int, apps: Sequence[App]) -> str:
    if number:
        return f"{number} apps of other files have the name {wanted!r}. Write the UUID of the app."
    names = sorted({app.name for app in apps})
    return (
        f"The app {wanted!r} is not in these files.{nearest(wanted, names)} Write the name or the UUID of an app, and "
        "name its file too."
    )


def _place(draft: Draft, path: KeyPath) -> Place:
    return draft.document.place(("apps", draft.name, *path))
