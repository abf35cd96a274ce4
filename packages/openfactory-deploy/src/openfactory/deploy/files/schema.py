"""The keys of the file of an app, their types and their bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AppFile",
    "Deploy",
    "Health",
    "Metrics",
    "Placement",
    "Reservations",
    "Limits",
    "Resources",
    "Routing",
    "Update",
    "When",
]

Port = Annotated[int, Field(ge=1, le=65_535)]


class _Section(BaseModel):
    """Keys of a mapping; an unknown key is an error, unless it begins with `x-`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Routing(_Section):
    """How the gateway reaches the web pages of the app."""

    expose: bool = False
    port: Port | None = None
    hostname: str | None = None


class Metrics(_Section):
    """Where Prometheus finds the metrics of the app."""

    port: Port
    path: str = "/metrics"


class Reservations(_Section):
    """Resources that a node keeps free for the app."""

    cpus: float | None = Field(default=None, gt=0)
    memory: str | None = None
    open_files: int | None = Field(default=None, ge=1)


class Limits(Reservations):
    """Resources that the app does not exceed."""


class Resources(_Section):
    """Limits and reservations."""

    limits: Limits | None = None
    reservations: Reservations | None = None


class Placement(_Section):
    """Nodes of a swarm on which the app may run."""

    constraints: tuple[str, ...] = ()


class Deploy(_Section):
    """Number of replicas, and what each of them needs."""

    replicas: int = Field(default=1, ge=1)
    resources: Resources | None = None
    placement: Placement | None = None


class Health(_Section):
    """When the app counts as healthy, beside its availability as an asset."""

    path: str = "/health/ready"
    port: Port | None = None
    interval: str = "5s"
    timeout: str = "5s"
    retries: int = Field(default=6, ge=1)
    start_period: str = "30s"


class Update(_Section):
    """How a new version replaces the running one."""

    order: Literal["start-first", "stop-first"] = "start-first"
    monitor: str = "5s"
    rollback: bool = True


class When(_Section):
    """A condition on assets that holds before the app is stopped or replaced."""

    condition: str
    timeout: str = "10m"


class AppFile(_Section):
    """One app: its program, and how it runs.

    Exactly one of `image`, `file` and `command` names the program; `command` with `image` is the command of the image.
    """

    uuid: str
    image: str | None = None
    file: str | None = None
    command: tuple[str, ...] | None = None
    image_pull_policy: Literal["missing", "always"] = "missing"
    runtime_uid: int | None = Field(default=None, ge=1)
    runtime_gid: int | None = Field(default=None, ge=1)
    uns: dict[str, Any] | None = None
    environment: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    secrets: dict[str, str] = Field(default_factory=dict)
    storage: dict[str, dict[str, Any]] = Field(default_factory=dict)
    routing: Routing | None = None
    metrics: Metrics | None = None
    networks: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    restart: Literal["no", "on-failure", "always", "unless-stopped"] = "unless-stopped"
    stop_grace_period: str = "10s"
    health: Health | None = None
    depends_on: tuple[str, ...] = ()
    update: Update = Field(default_factory=Update)
    when: When | None = None
    deploy: Deploy = Field(default_factory=Deploy)
