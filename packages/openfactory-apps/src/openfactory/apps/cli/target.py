"""The factory and the asset that a command works on, by the same rule for `ofa run` and `ofa asset`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from openfactory.apps.cli.failure import Failure
from openfactory.assets import Asset, Factory
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.location import scheme_of
from openfactory.settings import environment
from openfactory.settings.redaction import redacted

__all__ = ["default_url", "file_of", "known_asset", "open_factory", "require_file"]

DEFAULT_FILE = "factory.db"

# Number of assets that an error lists.
_LISTED = 10


def default_url() -> str:
    """Return KSQLDB_URL, or the URL of factory.db in the working directory if it is not set."""
    return environment("KSQLDB_URL") or f"sqlite:///{quote((Path.cwd() / DEFAULT_FILE).as_posix(), safe='/:')}"


def file_of(url: str) -> Path | None:
    """Return the file of a sqlite URL, or None for other URLs.

    Raises:
        ConfigurationError: the URL does not name a file.
    """
    return EmbeddedLocation.of(url).path if scheme_of(url) == "sqlite" else None


def require_file(file: Path) -> None:
    """Refuse a factory whose file does not exist, instead of creating one.

    Raises:
        Failure: the file does not exist.
    """
    if not file.exists():
        raise Failure(
            f"The factory {file} does not exist. Start an app with `ofa run FILE`, "
            "or select another factory with --url or KSQLDB_URL."
        )


@contextmanager
def open_factory(url: str | None) -> Generator[Factory]:
    """Open the factory at a URL, by default at `default_url`, without creating a file.

    Raises:
        Failure: the factory does not exist.
        EngineUnavailableError, ConfigurationError: the factory cannot be opened.
    """
    url = url or default_url()
    if (file := file_of(url)) is not None:
        require_file(file)
    if scheme_of(url) == "memory":
        raise Failure(
            f"{redacted(url)} is visible only in the process that created it. Use a file: --url sqlite:///factory.db."
        )
    with Factory(url) as factory:
        yield factory


@contextmanager
def known_asset(factory: Factory, asset_uuid: str) -> Generator[Asset]:
    """Open an asset that has attributes or methods.

    Raises:
        Failure: the asset was not found.
    """
    with factory.asset(asset_uuid) as asset:
        if not asset.attributes() and not asset.methods():
            remedy = _remedy(list(factory.assets()))
            raise Failure(f"The asset {asset_uuid!r} was not found in {redacted(factory.url)}. {remedy}")
        yield asset


def _remedy(registered: list[str]) -> str:
    if not registered:
        return "No asset is registered. Start an app with `ofa run FILE`."
    more = f" and {len(registered) - _LISTED} more" if len(registered) > _LISTED else ""
    return f"Use a registered asset: {', '.join(registered[:_LISTED])}{more}."
