"""Loggers for apps, with lines such as `[PREFIX] (2026-11-21 07:30:00) INFO message` on standard error."""

from openfactory.logs.prefixed import configure_prefixed_logger

__all__ = ["configure_prefixed_logger"]
