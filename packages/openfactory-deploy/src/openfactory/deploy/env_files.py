"""Files of environment variables, one `NAME=value` a line, as Compose and Docker read them."""

from __future__ import annotations

from pathlib import Path

from openfactory.exceptions import ConfigurationError

__all__ = ["variables_in"]

_QUOTES = ("'", '"')


def variables_in(path: Path) -> dict[str, str]:
    """Return the variables of a file; empty lines and those that begin with `#` are skipped, outer quotes are dropped.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not `NAME=value`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"env_file {path} cannot be read ({error}). Correct the path.") from error
    variables = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not separator or not name:
            # The text may be a part of a secret, so it is not shown.
            raise ConfigurationError(f"{path}:{number}: the line is not NAME=value. Write it so, or remove it.")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in _QUOTES:
            value = value[1:-1]
        variables[name] = value
    return variables
