"""A logger whose lines begin with the name of who speaks."""

from __future__ import annotations

import logging
import re

from openfactory.exceptions import ConfigurationError

__all__ = ["configure_prefixed_logger"]


_LINE_ENDS = re.compile("\r\n|[\r\n]")
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"}


class _Lines(logging.Formatter):
    """Only a line of the log begins at the margin: what a stranger has sent, and a message quotes, forges none."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class calls it so
        lines = (line.translate(_ESCAPED) for line in _LINE_ENDS.split(record.message))
        record.message = "\n    ".join(lines)
        return super().formatMessage(record)


class _PrefixedHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Marks the handler as ours, so that asking twice for a logger doubles no line."""


def configure_prefixed_logger(name: str, level: str | int = "INFO", prefix: str = "APP") -> logging.Logger:
    """A logger of that name, at that level, whose lines begin with `[PREFIX]`.

    >>> configure_prefixed_logger("example", level="debug", prefix="MILL").name
    'example'

    Raises:
        ConfigurationError: there is no such level.
    """
    logger = logging.getLogger(name)
    try:
        logger.setLevel(level.upper() if isinstance(level, str) else level)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{level!r} is no log level. Use DEBUG, INFO, WARNING, ERROR or CRITICAL, or a number."
        ) from error
    logger.propagate = False
    handler = next((one for one in logger.handlers if isinstance(one, _PrefixedHandler)), None)
    if handler is None:
        handler = _PrefixedHandler()
        logger.addHandler(handler)
    handler.setFormatter(_Lines(f"[{prefix}] (%(asctime)s) %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    return logger
