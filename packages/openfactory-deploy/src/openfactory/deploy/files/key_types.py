"""The types of keys: the conversion of a value, and its JSON Schema for editors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from openfactory.deploy.files import storages, values
from openfactory.deploy.files.uns_values import level_values

__all__ = [
    "Command",
    "Constraint",
    "Cpus",
    "Environment",
    "EnvironmentItem",
    "Flag",
    "Grace",
    "Labels",
    "Levels",
    "LongTime",
    "Memory",
    "Name",
    "OpenFiles",
    "PagePath",
    "Port",
    "ShortTime",
    "Store",
    "Text",
    "UserId",
]

_NAME_AND_VALUE = {"type": "string", "pattern": "^[^=]+=", "examples": ["LOG_LEVEL=INFO"]}
_SCALAR = {"type": ["string", "number", "boolean"]}
_NAMES_AND_VALUES = {
    "anyOf": [{"type": "array", "items": _NAME_AND_VALUE}, {"type": "object", "additionalProperties": _SCALAR}]
}
_DURATION = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", "examples": ["10s", "1m30s"]}

Text = Annotated[str, Field(min_length=1), BeforeValidator(values.text_of)]
Flag = Annotated[bool, BeforeValidator(values.flag)]
Port = Annotated[int, Field(ge=1, le=65_535), BeforeValidator(values.whole_number(1, 65_535))]
UserId = Annotated[int, Field(ge=1, le=4_294_967_294), BeforeValidator(values.whole_number(1, 4_294_967_294))]
PagePath = Annotated[str, Field(pattern="^/"), BeforeValidator(values.absolute_path)]
Memory = Annotated[
    str,
    BeforeValidator(values.memory),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*[kKmMgG]?[iI]?[bB]?$", "examples": ["512Mi"]}),
]
Cpus = Annotated[float, Field(ge=0.01, le=1_000), BeforeValidator(values.decimal)]
OpenFiles = Annotated[int, Field(ge=1, le=1_048_576), BeforeValidator(values.whole_number(1, 1_048_576))]
ShortTime = Annotated[str, BeforeValidator(values.duration("1ms", "1h")), WithJsonSchema(_DURATION)]
Grace = Annotated[str, BeforeValidator(values.duration("0s", "1h")), WithJsonSchema(_DURATION)]
LongTime = Annotated[str, BeforeValidator(values.duration("0s", "7d")), WithJsonSchema(_DURATION)]
Constraint = Annotated[
    str,
    BeforeValidator(values.constraint_of),
    WithJsonSchema({"type": "string", "pattern": "^[^ =!]+ *(==|!=|=) *[^ =!]", "examples": ["node.role == manager"]}),
]
EnvironmentItem = Annotated[str, BeforeValidator(values.assignment)]
Environment = Annotated[
    tuple[EnvironmentItem, ...],
    BeforeValidator(values.items_of),
    WithJsonSchema(_NAMES_AND_VALUES),
]
Labels = Annotated[
    dict[str, str],
    BeforeValidator(values.labels_of),
    WithJsonSchema(_NAMES_AND_VALUES),
]
Command = Annotated[
    tuple[str, ...],
    BeforeValidator(values.command_of),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": _SCALAR, "minItems": 1}]}),
]
Store = Annotated[
    dict[str, Any],
    BeforeValidator(storages.storage_of),
    WithJsonSchema(
        {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"type": "string", "examples": ["local", "nfs", "fsspec"]},
                "mount_point": {"type": "string", "pattern": "^\\s*/"},
                "local_path": {"type": "string", "pattern": "^\\s*/"},
                "remote_path": {"type": "string", "pattern": "^\\s*/"},
                "server": {"type": "string"},
                "mount_options": {"type": "array", "items": {"type": "string"}},
                "url": {"type": "string", "examples": ["s3://bucket/folder"]},
                "options": {"type": "object"},
                "read_only": {"type": "boolean"},
                "description": {"type": "string"},
            },
        }
    ),
]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$"), BeforeValidator(storages.storage_name_of)]
Levels = Annotated[
    dict[str, str],
    BeforeValidator(level_values),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number"]}}),
]
