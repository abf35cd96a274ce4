"""The public names of `openfactory.fastapiapp`, beside those of `openfactory.apps.ofa_flask_app`."""

from __future__ import annotations

from openfactory.exceptions import MissingDistributionError

try:
    from openfactory.fastapiapp import OpenFactoryFastAPIApp, __version__, send_stored_file, sse
except ImportError as error:
    if error.name not in ("openfactory.fastapiapp", "fastapi", "starlette", "uvicorn"):
        raise
    raise MissingDistributionError(
        "OpenFactoryFastAPIApp needs openfactory-fastapi. Install it: pip install openfactory-fastapi"
    ) from error

__all__ = ["OpenFactoryFastAPIApp", "__version__", "send_stored_file", "sse"]
