"""A release as a program of this machine, and the keys of its file that such a program cannot honour."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from openfactory.deploy.app import Release
from openfactory.deploy.environment import secret_variable
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.files.schema import Limits
from openfactory.deploy.files.sizes import bytes_of
from openfactory.deploy.targets.base import TargetError
from openfactory.deploy.targets.process.base_environment import base_environment
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.records import Program

__all__ = ["ignored_keys", "program_of", "refused_keys"]

# Variables with ports, of which the target may choose others.
_PORTS = ("PORT", "OPERATIONS_PORT")


def program_of(release: Release, project: str, layout: Layout, log_bytes: int) -> Program:
    """Return the program of a release.

    Raises:
        TargetError: the release cannot run as a process of this machine.
    """
    settings = release.app.settings
    for key, text in refused_keys(release).items():
        raise TargetError(f"{release.uuid} cannot run as a process: {key}: {text}")
    folder = release.app.place.file.parent.absolute()
    limits = settings.deploy.limits
    if settings.file is not None:
        title = str(folder / settings.file)
        arguments = [sys.executable, "-m", "openfactory.apps.cli", "run", title]
    else:
        arguments = list(settings.command or ())
        title = textwrap.shorten(shlex.join(arguments), 100, placeholder=" …")
    secrets = layout.secret_folder(release.uuid, release.generation)
    paths = {secret_variable(name): str(secrets / name) for name in release.secrets}
    return Program(
        project=project,
        app=settings.uuid,
        uuid=release.uuid,
        hash=release.hash,
        generation=release.generation,
        title=title,
        arguments=arguments,
        folder=str(folder),
        environment=base_environment(settings.runtime_uid) | release.variables | paths,
        ports=[name for name in _PORTS if release.environment.get(name, "").isdecimal()],
        restart=settings.restart,
        grace=seconds_of(settings.stop_grace_period),
        uid=settings.runtime_uid,
        gid=settings.runtime_gid,
        memory=None if limits.memory is None else bytes_of(limits.memory),
        open_files=limits.open_files,
        log_bytes=log_bytes,
    )


def refused_keys(release: Release) -> dict[str, str]:
    """Return the keys without which the app would not be the one that its file describes, with problem and remedy."""
    settings = release.app.settings
    refused = {}
    if settings.image is not None:
        refused["image"] = (
            "a plain process does not run an image. Select the target docker, or name the program with `file` or "
            "`command` in place of the image."
        )
    elif settings.file is not None:
        path = release.app.place.file.parent / settings.file
        if not path.is_file():
            refused["file"] = f"{path} does not exist. Correct the path, which begins at the folder of the app's file."
    elif not settings.command:
        refused["command"] = "the app has neither `file` nor `command`. Name its program with one of them."
    elif not _is_installed(release, settings.command[0]):
        refused["command"] = (
            f"the program {settings.command[0]!r} is not installed. Install it, correct its name, or write its "
            "path from the folder of the app's file."
        )
    if settings.runtime_uid is not None and os.geteuid() not in (0, settings.runtime_uid):
        refused["runtime_uid"] = (
            f"only root can run an app as the user {settings.runtime_uid}. Remove runtime_uid and runtime_gid, or run "
            "the command as root."
        )
    refused |= _refused_limits(settings.deploy.limits)
    for name, store in settings.storage.items():
        if problem := _refused_storage(store):
            refused[f"storage.{name}"] = problem
    return refused


def _is_installed(release: Release, program: str) -> bool:
    """Return whether a program is in the folder of the app's file, or in PATH as the app has it."""
    if os.path.dirname(program):
        program = str(release.app.place.file.parent.absolute() / program)
    environment = base_environment(release.app.settings.runtime_uid) | release.variables
    return shutil.which(program, path=environment["PATH"]) is not None


def ignored_keys(release: Release) -> dict[str, str]:
    """Return the keys that mean nothing for processes of one machine; the app runs without them."""
    settings = release.app.settings
    ignored = {}
    if settings.deploy.limits.cpus is not None:
        ignored["deploy.resources.limits.cpus"] = "the CPU of a process is not limited. Select the target docker."
    if settings.deploy.resources is not None and settings.deploy.resources.reservations is not None:
        ignored["deploy.resources.reservations"] = "nothing is reserved for a process. Select the target swarm."
    if settings.deploy.constraints:
        ignored["deploy.placement"] = "a process runs on this machine. Select the target swarm for several."
    if settings.networks:
        ignored["networks"] = "a process is in the network of this machine. Select the target docker for others."
    return ignored


def _refused_limits(limits: Limits) -> dict[str, str]:
    refused = {}
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limits.open_files is not None and os.geteuid() != 0 and limits.open_files > most != resource.RLIM_INFINITY:
        refused["deploy.resources.limits.open_files"] = (
            f"this user may have at most {most} open files. Lower the limit to that, or raise it with ulimit -Hn."
        )
    if limits.memory is not None and not Path("/proc/self/statm").exists():
        refused["deploy.resources.limits.memory"] = (
            "the memory of a process can be limited on Linux only. Remove the limit, or select the target docker."
        )
    return refused


def _refused_storage(store: dict[str, object]) -> str:
    """Return the problem of a storage, which a plain process uses without a mount of its own."""
    mount_point = str(store.get("mount_point"))
    if store.get("type") == "local":
        local_path = str(store.get("local_path"))
        if not Path(local_path).is_dir():
            return f"the folder {local_path} does not exist. Create it: mkdir -p {local_path}."
        if Path(mount_point).is_dir() and not Path(mount_point).samefile(local_path):
            return (
                f"the folder {mount_point} exists on this machine, and the app would use it in place of {local_path}. "
                "Use another mount_point."
            )
    if store.get("type") == "nfs" and not Path(mount_point).is_dir():
        return (
            f"{mount_point} does not exist, and a process cannot mount it. Mount it on this machine: "
            f"sudo mount -t nfs {store.get('server')}:{store.get('remote_path')} {mount_point}."
        )
    return ""
