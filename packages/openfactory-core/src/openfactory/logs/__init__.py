"""Loggers for apps, with lines such as `[PREFIX] (2026-11-21 07:30:00) INFO message` on standard error."""

from openfactory.logs.prefixed import configure_library_logger, configure_prefixed_logger

__all__ = ["configure_library_logger", "configure_prefixed_logger"]
