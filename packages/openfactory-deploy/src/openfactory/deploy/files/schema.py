"""The keys of the file of an app, their types and their bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from openfactory.deploy.files import storages, values
from openfactory.deploy.files.key_types import (
    Command,
    Constraint,
    Cpus,
    Environment,
    Flag,
    Grace,
    Labels,
    Levels,
    LongTime,
    Memory,
    Name,
    OpenFiles,
    PagePath,
    Port,
    ShortTime,
    Store,
    Text,
    UserId,
)
from openfactory.deploy.files.variables import Replaced

__all__ = [
    "EXTENSION",
    "AppFile",
    "Deploy",
    "Health",
    "Limits",
    "Metrics",
    "Placement",
    "Reservations",
    "Resources",
    "Routing",
    "Secret",
    "Section",
    "Update",
    "When",
]

#: Beginning of keys that are for other tools.
EXTENSION = "x-"


def _words(*words: str) -> BeforeValidator:
    return BeforeValidator(values.one_of(*words))


class Section(BaseModel):
    """Keys of a mapping; an unknown key is an error, unless it begins with `x-`.

    A key without a value, or with a variable that is not set, counts as left out if it may be left out.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        json_schema_extra={"patternProperties": {f"^{EXTENSION}": {}}},
    )

    @model_validator(mode="before")
    @classmethod
    def _without_absent_keys(cls, keys: Any) -> Any:
        if not isinstance(keys, dict):
            return keys
        return {key: value for key, value in keys.items() if not cls._is_absent(key, value)}

    @classmethod
    def _is_absent(cls, key: Any, value: Any) -> bool:
        field = cls.model_fields.get(key)
        if field is None:
            return isinstance(key, str) and key.startswith(EXTENSION)
        if isinstance(value, Replaced):
            return value.is_absent
        return value is None and _may_be_empty(field)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema of the section, in which the keys that may be empty are null too."""
        answer = handler(schema)
        keys = handler.resolve_ref_schema(answer)["properties"]
        for name, field in cls.model_fields.items():
            key = keys[name]
            if _may_be_empty(field) and {"type": "null"} not in key.get("anyOf", []):
                outside = {part: key.pop(part) for part in ("title", "default") if part in key}
                key = keys[name] = {**outside, "anyOf": [key, {"type": "null"}]}
            key["description"] = field.description
        return answer


def _may_be_empty(field: FieldInfo) -> bool:
    """Return whether a key without a value counts as left out: all but words, numbers and switches with a default."""
    default = field.get_default(call_default_factory=True, validated_data={})
    return default is None or default == () or isinstance(default, dict | Section)


class Routing(Section):
    """How the gateway reaches the web pages of the app."""

    expose: Flag = Field(default=False, description="Whether the gateway shows the pages.")
    port: Port | None = Field(default=None, description="Port of the pages; the app reads it as PORT.")
    hostname: Text | None = Field(
        default=None, description="A second host name below the domain of the factory, beside the UUID."
    )


class Metrics(Section):
    """Where Prometheus finds the metrics of the app."""

    port: Port = Field(description="Port of the metrics.")
    path: PagePath = Field(default="/metrics", description="Path of the metrics.")


class Reservations(Section):
    """Resources that a node keeps free for the app."""

    cpus: Cpus | None = Field(default=None, description="Number of CPUs.")
    memory: Memory | None = Field(default=None, description="Memory, such as 512Mi; each unit is a power of 1024.")
    open_files: OpenFiles | None = Field(default=None, description="Number of open files.")


class Limits(Reservations):
    """Resources that the app does not exceed."""


class Resources(Section):
    """Limits and reservations."""

    limits: Limits | None = Field(default=None, description="What the app does not exceed.")
    reservations: Reservations | None = Field(default=None, description="What a node keeps free for the app.")


class Placement(Section):
    """Nodes of a swarm on which the app may run."""

    constraints: tuple[Constraint, ...] = Field(default=(), description="Such as node.role == manager.")


class Deploy(Section):
    """Number of replicas, and the resources and nodes of each."""

    replicas: Annotated[int, Field(ge=1, le=1_000), BeforeValidator(values.whole_number(1, 1_000))] = Field(
        default=1, description="Number of replicas; each is an asset of its own: <uuid>-1, <uuid>-2 and so on."
    )
    resources: Resources | None = Field(default=None, description="CPUs, memory and open files.")
    placement: Placement | None = Field(default=None, description="Nodes of a swarm on which the app may run.")

    @property
    def limits(self) -> Limits:
        """The limits of each replica; without any in the file, a value without limits."""
        return (self.resources.limits if self.resources is not None else None) or Limits()

    @property
    def reservations(self) -> Reservations:
        """The reservations of each replica; without any in the file, a value without reservations."""
        return (self.resources.reservations if self.resources is not None else None) or Reservations()

    @property
    def constraints(self) -> tuple[str, ...]:
        """The constraints on the nodes, each with its operator between blanks."""
        return self.placement.constraints if self.placement is not None else ()


class Health(Section):
    """When the app counts as healthy, beside its availability as an asset."""

    path: PagePath = Field(default="/health/ready", description="Page that answers with 200 if the app is healthy.")
    port: Port | None = Field(default=None, description="Port of the page; that of the routing by default.")
    interval: ShortTime = Field(default="5s", description="Time between two checks.")
    timeout: ShortTime = Field(default="5s", description="Time to wait for an answer.")
    retries: Annotated[int, Field(ge=1, le=1_000), BeforeValidator(values.whole_number(1, 1_000))] = Field(
        default=6, description="Failed checks in a row after which the app is not healthy."
    )
    start_period: Grace = Field(default="30s", description="Time in which failed checks do not count.")


class Update(Section):
    """How a new version replaces the running one."""

    order: Annotated[Literal["start-first", "stop-first"], _words("start-first", "stop-first")] = Field(
        default="start-first", description="Whether the new version starts before the old one stops."
    )
    monitor: Grace = Field(default="5s", description="Time in which an end of the new version is a failed update.")
    rollback: Flag = Field(default=True, description="Whether the old version comes back after a failed update.")


class When(Section):
    """A condition on assets that holds before the app is stopped or replaced."""

    condition: Text = Field(description="Such as: mill.status == idle")
    timeout: LongTime = Field(default="10m", description="Time to wait for the condition.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"condition": value} if isinstance(value, str) else value


class Secret(Section):
    """A value that the app reads from a file: a text of the deployment, or the content of a file."""

    file: Text | None = Field(default=None, description="File with the value, beside this file.")
    value: Annotated[SecretStr, BeforeValidator(values.text_of)] | None = Field(
        default=None, description="The value: ${NAME} takes it from the environment of the deployment."
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"value": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_one_source(self) -> Secret:
        if (self.file is None) == (self.value is None):
            found = "no value" if self.file is None else "a value and a file"
            raise ValueError(f"The secret has {found}. Write ${{NAME}}, or file: with the name of a file.")
        return self


class AppFile(Section):
    """One app: its program, and how it runs.

    Exactly one of `image`, `file` and `command` names the program; `command` with `image` is the command of the image.
    """

    uuid: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]+$"), BeforeValidator(values.uuid_of)] = Field(
        description="UUID of the asset, unique in the factory; containers have it as their name."
    )
    image: Annotated[str, Field(min_length=1), BeforeValidator(values.image_of)] | None = Field(
        default=None, description="Image of the app, such as ghcr.io/plant/mill:1.4."
    )
    file: Text | None = Field(default=None, description="Python file of the app, beside this file.")
    command: Command | None = Field(default=None, description="Command of the app, or of its image.")
    image_pull_policy: Annotated[Literal["missing", "always"], _words("missing", "always")] = Field(
        default="missing", description="Whether the image is pulled before each start, or only if it is missing."
    )
    runtime_uid: UserId | None = Field(default=None, description="User that the app runs as; with runtime_gid.")
    runtime_gid: UserId | None = Field(default=None, description="Group that the app runs as; with runtime_uid.")
    uns: Levels | None = Field(default=None, description="Place in the unified namespace: a value for each level.")
    environment: Environment = Field(
        default=(), description="Environment variables: a list of NAME=value or a mapping."
    )
    env_file: Annotated[
        tuple[Text, ...],
        BeforeValidator(values.one_or_more),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=(), description="Files with further variables, beside this file.")
    secrets: dict[Name, Secret] = Field(
        default_factory=dict,
        description="Values that the app reads from a file, whose path is in the variable <NAME>_FILE.",
    )
    storage: Annotated[dict[Name, Store], BeforeValidator(storages.storages_of)] = Field(
        default_factory=dict, description="Storages of the app by name."
    )
    routing: Routing | None = Field(default=None, description="How the gateway reaches the web pages of the app.")
    metrics: Metrics | None = Field(default=None, description="Where Prometheus finds the metrics of the app.")
    networks: tuple[Annotated[str, Field(min_length=1), BeforeValidator(values.network_of)], ...] = Field(
        default=(), description="Networks of the containers; they exist before."
    )
    labels: Labels = Field(default_factory=dict, description="Labels of the containers.")
    restart: Annotated[
        Literal["no", "on-failure", "always", "unless-stopped"],
        _words("no", "on-failure", "always", "unless-stopped"),
    ] = Field(default="unless-stopped", description="When the app is started again after its end.")
    stop_grace_period: Grace = Field(default="10s", description="Time from the signal to stop until the app is killed.")
    health: Health | None = Field(default=None, description="When the app counts as healthy.")
    depends_on: tuple[Text, ...] = Field(
        default=(), description="Apps that are available before this one starts: their names or UUIDs."
    )
    update: Update = Field(default_factory=Update, description="How a new version replaces the running one.")
    when: When | None = Field(
        default=None, description="Condition on assets that holds before the app is stopped or replaced."
    )
    deploy: Deploy = Field(default_factory=Deploy, description="Replicas, resources and nodes.")
