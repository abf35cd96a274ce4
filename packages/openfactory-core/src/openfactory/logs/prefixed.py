"""A logger whose lines begin with a prefix."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress

from openfactory.exceptions import ConfigurationError

__all__ = ["configure_library_logger", "configure_prefixed_logger"]

_LINE_ENDS = re.compile("\r\n|[\r\n]")
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"}


class _SafeFormatter(logging.Formatter):
    """Formatter that indents further lines and escapes control characters, so that quoted input cannot forge a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a method of the base class
        lines = (line.translate(_ESCAPED) for line in _LINE_ENDS.split(record.message))
        record.message = "\n    ".join(lines)
        return super().formatMessage(record)


class _PrefixedHandler(logging.Handler):
    """Handler that writes to the standard error of the moment, which test tools replace and close.

    A second call for the same logger finds it by its class, so that no line is written twice.

    A program that sets up the root logger for all its parts gets the lines there. If that writes to the terminal, this
    handler writes nothing. A line that standard error cannot take is lost, because no other place is left to tell that.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        if stream is None or getattr(stream, "closed", False) or _root_writes_to_terminal():
            return
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - the arguments of the caller
            self.handleError(record)
            return
        with suppress(OSError, ValueError):  # it is full, or was closed meanwhile
            try:
                stream.write(line)
            except UnicodeEncodeError:
                stream.write(line.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
            stream.flush()


def _root_writes_to_terminal() -> bool:
    terminal = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    streams = (getattr(handler, "stream", None) for handler in logging.getLogger().handlers)
    return any(stream in terminal for stream in streams if stream is not None)


def configure_prefixed_logger(name: str, level: str | int = "INFO", prefix: str = "APP") -> logging.Logger:
    """Return the logger with this name and level, whose lines begin with `[PREFIX]`.

    A later call for the same name replaces the level and the prefix. The lines also go to the handlers of the root
    logger, in their format; if one of these writes to the terminal, it alone does.

    >>> configure_prefixed_logger("example", level="debug", prefix="MILL").name
    'example'

    Raises:
        ConfigurationError: the level does not exist.
    """
    logger = logging.getLogger(name)
    try:
        logger.setLevel(level.upper() if isinstance(level, str) else level)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{level!r} is not a log level. Use DEBUG, INFO, WARNING, ERROR or CRITICAL, or a number."
        ) from error
    handler = next((handler for handler in logger.handlers if isinstance(handler, _PrefixedHandler)), None)
    if handler is None:
        handler = _PrefixedHandler()
        logger.addHandler(handler)
    shown = prefix.replace("%", "%%")  # it may be the UUID of an app, and the text is a format
    handler.setFormatter(_SafeFormatter(f"[{shown}] (%(asctime)s) %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    return logger


def configure_library_logger(library: str, asset_uuid: str) -> None:
    """Format log lines of a library like those of an app, unless its logger has handlers already.

    Without a level of its own, the logger shows warnings and errors.
    """
    logger = logging.getLogger(library)
    if not logger.handlers:
        configure_prefixed_logger(library, level=logger.level or "WARNING", prefix=asset_uuid.upper())
