"""The public names of `openfactory.flaskapp`, at the path that existing apps import."""

from __future__ import annotations

from openfactory.exceptions import MissingDistributionError

try:
    from openfactory.flaskapp import (
        AppHealth,
        OpenFactoryFlaskApp,
        __version__,
        current_ofa_app,
        send_stored_file,
        sse,
    )
except ImportError as error:
    if error.name not in ("openfactory.flaskapp", "flask", "werkzeug"):
        raise
    raise MissingDistributionError(
        "OpenFactoryFlaskApp needs openfactory-flask. Install it: pip install openfactory-flask"
    ) from error

__all__ = ["AppHealth", "OpenFactoryFlaskApp", "__version__", "current_ofa_app", "send_stored_file", "sse"]
