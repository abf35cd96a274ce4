"""The project, the target and the factory that the commands work on, found from their paths and options."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from openfactory.apps.cli.failure import Failure
from openfactory.deploy.settings import VARIABLES
from openfactory.settings import declare, setting

if TYPE_CHECKING:
    from openfactory.deploy.app import App, Release
    from openfactory.deploy.factory_environment import FactoryEnvironment
    from openfactory.deploy.plan import Plan
    from openfactory.deploy.planning import Known
    from openfactory.deploy.registered import RegisteredAsset
    from openfactory.deploy.releases import ReleaseStore
    from openfactory.deploy.targets.base import Project, Target

__all__ = [
    "Session", "Wanted", "apps_in", "check_releases", "facts_of", "is_wanted", "known_to", "not_running",
    "open_session", "plan_of", "project_of", "wanted_by",
]  # fmt: skip

declare(VARIABLES)

# File with settings of the deployer, in the folder of the project or the working directory.
_SETTINGS_FILE = ".ofaenv"


class Session(msgspec.Struct, frozen=True):
    """The project, target and factory of a command.

    Attributes:
        paths: files and folders of the command line.
        project: the project.
        target: the target.
        store: the releases that have been up on the target.
        environment: the servers of the factory and the logins for them, as the apps get them.
    """

    paths: tuple[Path, ...]
    project: Project
    target: Target
    store: ReleaseStore
    environment: FactoryEnvironment

    @property
    def factory_url(self) -> str:
        """URL of the factory.

        Raises:
            Failure: no factory is named.
        """
        url = self.environment.variables.get("KSQLDB_URL")
        if url is not None and url.startswith("memory:"):
            raise Failure(f"{url} is visible only in one process. Set KSQLDB_URL to a file or a server.")
        if url is None:
            raise Failure(
                "The factory is not named. Set KSQLDB_URL to its location, such as kafka://broker:9092, "
                f"in the environment or in {_SETTINGS_FILE}."
            )
        return url

    def deployed(self) -> dict[str, Release]:
        """Return the last release of each asset that has been up, by UUID."""
        return {uuid: kept.release for uuid, kept in self.store.all_last().items()}


class Wanted(msgspec.Struct, frozen=True):
    """The apps of the files of a session.

    Attributes:
        releases: all replicas of the apps.
        elsewhere: UUIDs of apps that were deployed from files which this command does not read.
    """

    releases: tuple[Release, ...]
    elsewhere: frozenset[str]


@contextmanager
def open_session(paths: Sequence[Path], target_name: str | None, project_name: str | None) -> Generator[Session]:
    """Open the target of a project.

    Args:
        paths: files and folders of apps; the working directory if there are none.
        target_name: name of the target; DEPLOYMENT_PLATFORM by default.
        project_name: name of the project; that of its folder by default.

    Raises:
        Failure: a path does not exist.
        ConfigurationError, MissingDistributionError, TargetError: the target cannot be used.
    """
    from openfactory.deploy.factory_environment import factory_environment
    from openfactory.deploy.releases import ReleaseStore
    from openfactory.deploy.targets.registry import open_target

    paths = tuple(paths) or (Path(),)
    project = project_of(paths, project_name)
    target = open_target(target_name or setting("DEPLOYMENT_PLATFORM") or "process", project)
    try:
        environment = factory_environment(target.default_url)
        yield Session(paths, project, target, ReleaseStore(project.own_folder, target.name), environment)
    finally:
        target.close()


def project_of(paths: Sequence[Path], name: str | None) -> Project:
    """Return the project of files and folders, and set the variables of its file .ofaenv.

    Raises:
        Failure: a path does not exist, or the name has neither a letter nor a digit.
    """
    from openfactory.deploy.names import normalised_name
    from openfactory.deploy.targets.base import Project

    for path in paths:
        if not path.exists():
            raise Failure(f"{path} does not exist. Give a file of apps, or a folder with files app_*.yml.")
    folder = _folder_of(paths)
    _load_settings(dict.fromkeys((folder, Path.cwd())))
    normalised = normalised_name(name or folder.name)
    if not normalised:
        raise Failure(f"{name or folder.name!r} is not the name of a project. Give one with --project.")
    return Project(normalised, folder)


def apps_in(paths: Sequence[Path], uns_file: str | None = None) -> list[App]:
    """Return the apps of files and folders, with their places in the unified namespace.

    Args:
        paths: the files and folders.
        uns_file: file of the unified namespace; that of the settings by default.

    Raises:
        InvalidFilesError: something is wrong in the files.
    """
    from openfactory.deploy.reading import read_apps
    from openfactory.deploy.uns import UNSSchema

    uns_file = uns_file or setting("OPENFACTORY_UNS_SCHEMA")
    uns = UNSSchema.from_file(uns_file, os.environ) if uns_file else None
    return read_apps(paths, os.environ, uns)


def wanted_by(session: Session) -> Wanted:
    """Read the files of a session.

    Raises:
        InvalidFilesError: something is wrong in the files.
        ConfigurationError: an environment file is not valid.
    """
    from openfactory.deploy.environment import releases_of

    apps, target = apps_in(session.paths), session.target
    releases = tuple(
        release
        for app in apps
        for release in releases_of(app, session.environment, target=target.name, secret_path=target.secret_path)
    )
    read = {app.place.file.resolve() for app in apps}
    elsewhere = {
        release.app.settings.uuid
        for release in session.deployed().values()
        if not _is_read(release.app.place.file, read, session.paths) and release.app.place.file.is_file()
    }
    return Wanted(releases, frozenset(elsewhere))


def check_releases(session: Session, releases: Sequence[Release]) -> None:
    """Check that the target can run all releases, before anything starts.

    Raises:
        InvalidFilesError: it refuses keys of them, or an app has the UUID of the record of the deployments.
    """
    from openfactory.deploy.problems import InvalidFilesError, Problem
    from openfactory.deploy.record import record_uuid

    record = record_uuid(session.project.name)
    problems = []
    for release in releases:
        refused = dict(session.target.refuses(release))
        if release.uuid.lower() == record:
            refused["uuid"] = f"{record} is the asset that records the deployments of this project. Write another UUID."
        problems += [
            Problem(release.app.place, f"apps.{release.app.name}.{key}", text[:1].upper() + text[1:])
            for key, text in refused.items()
        ]
    if problems:
        raise InvalidFilesError(problems)


def facts_of(session: Session, uuids: Collection[str], *, with_users: bool = True) -> dict[str, RegisteredAsset]:
    """Return the facts of the factory about some assets; a factory whose file does not exist yet has no facts.

    Args:
        session: the session.
        uuids: UUIDs of the assets.
        with_users: look for the users of the assets too, which takes the events of all assets.
    """
    from openfactory.apps.cli.target import file_of
    from openfactory.deploy.registered import registered_assets
    from openfactory.engines.registry import open_engine

    file = file_of(session.factory_url)
    if file is not None and not file.exists():
        return {}
    with open_engine(session.factory_url) as reference:
        return registered_assets(reference.engine, uuids, with_users=with_users)


def known_to(session: Session, uuids: Iterable[str] = (), *, with_users: bool = True) -> Known:
    """Return the facts of which the plans of a session are made.

    Args:
        session: the session.
        uuids: UUIDs of assets that neither run nor have been up here.
        with_users: look for the users of the assets too, which takes the events of all assets.

    Raises:
        EngineError, TargetError: the factory or the target cannot be read.
    """
    from openfactory.deploy.planning import Known

    instances, deployed = session.target.instances(), session.deployed()
    facts = facts_of(session, {*uuids, *(instance.uuid for instance in instances), *deployed}, with_users=with_users)
    return Known(session.project.name, session.target.name, instances, facts, deployed)


def plan_of(session: Session, wanted: Wanted) -> Plan:
    """Return the plan of a deployment; the target can run all its releases, as `check_releases` has found.

    Raises:
        EngineError, TargetError: the factory or the target cannot be read.
    """
    from openfactory.deploy.declared import declared_in, dropped
    from openfactory.deploy.planning import plan_of_releases

    known = known_to(session, (release.uuid for release in wanted.releases))
    declared_once = functools.cache(declared_in)  # replicas share a file
    drops: dict[str, tuple[str, ...] | None] = {}
    for release in wanted.releases:
        if (asset := known.assets.get(release.uuid)) is not None:
            file = release.app.settings.file
            declared = None if file is None else declared_once(release.app.place.file.parent / file)
            drops[release.uuid] = None if declared is None else dropped(asset, declared)
    return plan_of_releases(known, wanted.releases, elsewhere=wanted.elsewhere, drops=drops)


def is_wanted(uuid: str, app: str, wanted: Sequence[str]) -> bool:
    """Return whether an asset is selected by its UUID or that of its app; without a selection, each is."""
    return not wanted or uuid in wanted or app in wanted


def not_running(session: Session, wanted: Sequence[str], known: Collection[str]) -> str:
    """Return the message for selected assets that the project does not have."""
    if not wanted or not known:
        return f"Nothing of {session.project.name} runs. Start it with `ofa apps up`."
    return f"{', '.join(wanted)} is not in {session.project.name}, which has {', '.join(sorted(known))}."


def _folder_of(paths: Sequence[Path]) -> Path:
    """Return the folder of a project: the one that all its files have in common."""
    folders = [path.absolute() if path.is_dir() else path.absolute().parent for path in paths]
    return Path(os.path.commonpath([os.path.normpath(folder) for folder in folders]))


def _load_settings(folders: Iterable[Path]) -> None:
    """Set the variables of the files .ofaenv that the environment does not have."""
    from openfactory.deploy.env_files import variables_in

    for folder in folders:
        file = folder / _SETTINGS_FILE
        if file.is_file():
            for name, value in variables_in(file).items():
                os.environ[name] = os.environ.get(name) or value


def _is_read(file: Path, read: set[Path], paths: Sequence[Path]) -> bool:
    """Return whether a file was read, or would have been if it had any apps."""
    file = file.resolve()
    return file in read or any(file == path.resolve() or file.is_relative_to(path.resolve()) for path in paths)
