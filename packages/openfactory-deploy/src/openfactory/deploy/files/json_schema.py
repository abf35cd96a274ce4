"""The JSON Schema of the files of apps, by which editors complete and check them."""

from __future__ import annotations

from typing import Any

from openfactory.deploy.files.schema import EXTENSION, AppFile

__all__ = ["json_schema"]

# A text with a variable may stand in the place of each scalar.
_VARIABLE = {"type": "string", "pattern": r"\$\{", "description": "A text with a variable, such as ${NAME:-default}."}
# Sections that may be written as one text.
_SHORT_FORMS = ("Secret", "When")
_DIGITS = {"type": "string", "pattern": "^[0-9]+$"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file of apps."""
    app = AppFile.model_json_schema()
    definitions = app.pop("$defs")
    for name in _SHORT_FORMS:
        definitions[name] = {"anyOf": [{"type": "string", "minLength": 1}, definitions[name]]}
    definitions["App"] = app | {"anyOf": [{"required": [name]} for name in ("image", "file", "command")]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Apps of an OpenFactory",
        "description": "A file app_<name>.yml for `ofa apps`.",
        "type": "object",
        "required": ["apps"],
        "additionalProperties": False,
        "patternProperties": {f"^{EXTENSION}": {}},
        "properties": {
            "apps": {
                "description": "The apps by name.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"$ref": "#/$defs/App"},
            },
            "devices": {"description": "The devices of the file, which `ofa apps` does not read."},
        },
        "$defs": {name: _with_variables(definition) for name, definition in sorted(definitions.items())},
    }


def _with_variables(schema: Any) -> Any:
    """Return a schema in which each scalar, apart from free text, may be a text with a variable.

    Where names have a pattern, other names are not allowed.
    """
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {key: _with_variables(value) for key, value in schema.items()}
    if "patternProperties" in whole:
        whole.setdefault("additionalProperties", False)
    if schema.get("type") in ("integer", "number", "boolean"):
        texts = [_DIGITS, _VARIABLE] if schema["type"] == "integer" else [_VARIABLE]
        return _alternatives(whole, texts)
    if schema.get("type") == "string" and ("enum" in schema or "pattern" in schema):
        return _alternatives(whole, [_VARIABLE])
    return whole


def _alternatives(schema: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a schema that also allows others; its texts for people stay outside."""
    outside: dict[str, Any] = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
    return {**outside, "anyOf": [schema, *others]}
