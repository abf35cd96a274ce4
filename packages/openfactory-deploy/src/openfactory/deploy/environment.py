"""The environment of an app: its identity, the servers of its factory, its storage and its secrets.

One function gives it for every target, so that an app finds the same on a laptop and in a cluster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from openfactory.deploy.app import App, Release
from openfactory.deploy.env_files import variables_in
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.names import path_prefix, replica_uuids
from openfactory.exceptions import ConfigurationError
from openfactory.storage import mount_specs_from_environment

__all__ = ["CONTRACT_VARIABLES", "container_secret_path", "releases_of", "secret_variable"]

# Variables that apps of the existing OpenFactory find in their environment, and that OpenFactory itself does not read.
CONTRACT_VARIABLES = (
    "DOCKER_SERVICE",
    "KSQLDB_LOG_LEVEL",
    "SWARM_NODE_HOSTNAME",
    "SWARM_SERVICE_NAME",
    "SWARM_TASK_ID",
)

# Swarm replaces these templates by the facts of the task. Each replica is a service of its own, with its own UUID, so
# an app must not append the number of its task: SWARM_REPLICAS is 1.
_OF_SWARM = {
    "SWARM_TASK_SLOT": "{{.Task.Slot}}",
    "SWARM_TASK_ID": "{{.Task.ID}}",
    "SWARM_SERVICE_NAME": "{{.Service.Name}}",
    "SWARM_NODE_HOSTNAME": "{{.Node.Hostname}}",
    "SWARM_REPLICAS": "1",
}

# Seconds that a gateway takes to follow, and that an engine takes to ask the health of a container that is due.
_GATEWAY_SECONDS = 1
_ENGINE_SECONDS = 5

# Seconds between two probes of a pod, which also asks whether the port of an app without `health` is open.
_PROBE_SECONDS = 1


def container_secret_path(uuid: str, name: str) -> str:  # noqa: ARG001 - a plain process needs the UUID
    """Return the path of a secret in the container of an asset."""
    return f"/run/secrets/{name}"


def secret_variable(name: str) -> str:
    """Return the name of the variable with the path of a secret.

    >>> secret_variable("db-password")
    'DB_PASSWORD_FILE'
    """
    return re.sub(r"\W", "_", name).upper() + "_FILE"


def releases_of(
    app: App,
    factory: FactoryEnvironment,
    *,
    target: str,
    secret_path: Callable[[str, str], str] = container_secret_path,
) -> list[Release]:
    """Return the replicas of an app as they are to run on a target, each with its whole environment.

    Args:
        app: the app.
        factory: the servers of the factory, and what else the deployer knows.
        target: name of the target.
        secret_path: returns the path at which an asset reads a secret, by its UUID and the name of the secret.

    Raises:
        ConfigurationError: an environment file cannot be read, or the app sets a variable of the deployment.
        StorageConfigurationError: the storage of the app cannot be used.
    """
    own = _own_variables(app)
    storage = _storage_text(app.settings.storage)
    secrets = dict(factory.secrets) | _own_secrets(app)
    mounts = tuple(mount_specs_from_environment(storage))
    releases = []
    for replica, uuid in enumerate(replica_uuids(app.settings.uuid, app.settings.deploy.replicas), start=1):
        injected = _injected(app, uuid, factory, storage)
        if app.settings.routing is not None and app.settings.routing.expose:
            injected["HANDOVER_SECONDS"] = str(_handover(app, target))
        if target == "swarm":
            injected |= _OF_SWARM
        _refuse_changes(app, injected, own)
        paths = {secret_variable(name): secret_path(uuid, name) for name in secrets}
        environment = {**injected, **paths, **own}
        environment.setdefault("KSQLDB_LOG_LEVEL", "WARNING")
        releases.append(Release(app, uuid, replica, environment, secrets, mounts))
    return releases


def _injected(app: App, uuid: str, factory: FactoryEnvironment, storage: str | None) -> dict[str, str]:
    variables = {"APP_UUID": uuid, **factory.variables, "DOCKER_SERVICE": uuid.lower()}
    routing, metrics = app.settings.routing, app.settings.metrics
    if routing is not None and routing.port is not None:
        variables["PORT"] = str(routing.port)
    if routing is not None and factory.prefixes:
        variables["OPENFACTORY_ROOT_PATH"] = path_prefix(app.settings.uuid)  # the replicas share the route of the app
    if metrics is not None and (routing is None or metrics.port != routing.port):
        variables["OPERATIONS_PORT"] = str(metrics.port)  # web pages have their metrics on their own port
    if storage is not None:
        variables["STORAGE"] = storage
    return variables


def _handover(app: App, target: str) -> int:
    """Return the seconds for which the old version of an app serves its pages until the gateway leads to the new one.

    With `health`, containers have no route before their first check; a pod has none before its first probe in any case.
    The target stops the old version then.
    """
    health = app.settings.health
    if target == "process":
        return _GATEWAY_SECONDS
    if health is not None:
        return _ENGINE_SECONDS + math.ceil(seconds_of(health.interval) + seconds_of(health.timeout))
    return _ENGINE_SECONDS + _PROBE_SECONDS if target == "kubernetes" else _GATEWAY_SECONDS


def _own_variables(app: App) -> dict[str, str]:
    """Return the variables that the app itself sets; `environment` goes before `env_file`, as in Compose."""
    folder = app.place.file.parent
    variables: dict[str, str] = {}
    for name in app.settings.env_file:
        variables |= variables_in(folder / name)
    for item in app.settings.environment:
        name, _, value = item.partition("=")  # the schema has checked it
        variables[name] = value
    return variables


def _own_secrets(app: App) -> dict[str, str]:
    """Return the values of the secrets of an app; the last line end of a file does not count."""
    secrets = {}
    for name, secret in app.settings.secrets.items():
        if secret.value is not None:
            secrets[name] = secret.value.get_secret_value()
            continue
        file = app.place.file.parent / (secret.file or "")
        try:
            secrets[name] = file.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{app.place}: secrets.{name}: {file} cannot be read ({error}). Correct the path."
            ) from error
    return secrets


def _refuse_changes(app: App, injected: Mapping[str, str], own: Mapping[str, str]) -> None:
    """Refuse variables by which an app would not be found at its UUID or its port."""
    remedies = {"APP_UUID": "uuid", "PORT": "routing.port", "STORAGE": "storage", "SWARM_REPLICAS": "deploy.replicas"}
    for name, key in remedies.items():
        if name in injected and name in own:
            raise ConfigurationError(
                f"{app.place}: environment: {name} is set by the deployment. Remove it there, and set the key {key}."
            )


def _storage_text(storage: Mapping[str, Mapping[str, Any]]) -> str | None:
    if not storage:
        return None
    named = {name: {key: value for key, value in store.items() if value is not None} for name, store in storage.items()}
    return msgspec.json.encode(named).decode()
