"""Which factory a command looks at: one rule for `ofa run` and for all of `ofa asset`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from openfactory.apps.cli.failure import Failure
from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient
from openfactory.settings import environment
from openfactory.settings.credentials import redacted

__all__ = ["default_url", "file_of", "known_asset", "opened"]

DEFAULT_FILE = "factory.db"

# An error names at most so many assets, and then how many more there are.
_NAMED = 10


def default_url() -> str:
    """KSQLDB_URL, else the file of the working directory."""
    return environment("KSQLDB_URL") or f"sqlite:///{quote((Path.cwd() / DEFAULT_FILE).as_posix(), safe='/:')}"


def file_of(url: str) -> Path | None:
    """The file that a sqlite URL names; None where a URL names none."""
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "sqlite" or parts.netloc or not name:
        return None
    return Path(name).expanduser().absolute()


@contextmanager
def opened(url: str | None) -> Iterator[KSQLDBClient]:
    """A client of the factory that a URL names, or of the default one; it makes no file.

    Raises:
        Failure: there is no factory.
        EngineUnavailableError, ConfigurationError: it cannot be opened.
    """
    url = url or default_url()
    file = file_of(url)
    if file is not None and not file.exists():
        raise Failure(
            f"There is no factory here: {file} does not exist. Start one with `ofa run FILE`, "
            "or name another with --url or KSQLDB_URL."
        )
    if urlsplit(url).scheme == "memory":
        raise Failure(f"{url} is seen only by the process that keeps it. Name a file: --url sqlite:///factory.db.")
    with KSQLDBClient(url) as client:
        client.engine.health()  # opens it now, so that the caller has a client that works or an error
        yield client


@contextmanager
def known_asset(client: KSQLDBClient, asset_uuid: str) -> Iterator[Asset]:
    """An asset that somebody has written to.

    Raises:
        Failure: nobody has.
    """
    with Asset(asset_uuid, client) as asset:
        if not asset.attributes() and not asset.methods():
            there_are = _named(sorted(client.engine.types()))
            raise Failure(f"{redacted(client.ksqldb_url)} knows no asset {asset_uuid!r}. {there_are}")
        yield asset


def _named(asset_uuids: list[str]) -> str:
    if not asset_uuids:
        return "None is registered now: start an app with `ofa run FILE`."
    more = f" and {len(asset_uuids) - _NAMED} more" if len(asset_uuids) > _NAMED else ""
    return f"Registered are {', '.join(asset_uuids[:_NAMED])}{more}: name one of them."
