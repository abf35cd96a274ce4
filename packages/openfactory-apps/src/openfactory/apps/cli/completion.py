"""What a shell completes: UUIDs, attribute ids and method names, without a word and without making a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import click
from click.shell_completion import get_completion_class

from openfactory.apps.cli.target import default_url, file_of, opened
from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient

__all__ = ["complete_asset_uuid", "complete_attribute_id", "complete_method", "completion"]

#: The variable by which a shell asks.
COMPLETE_VARIABLE = "_OFA_COMPLETE"


def complete_asset_uuid(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's signature
    """The UUIDs of registered assets."""
    return _words(context, incomplete, lambda client: client.engine.types())


def complete_attribute_id(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The attribute ids of the asset that stands before."""
    return _words(context, incomplete, lambda client: _asked(context, client, Asset.attributes))


def complete_method(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The methods of the asset that stands before."""
    return _words(context, incomplete, lambda client: _asked(context, client, Asset.methods))


def _words(context: click.Context, incomplete: str, words: Callable[[KSQLDBClient], Iterable[str]]) -> list[str]:
    """Those words that go on from what is typed; none where there is no file to read."""
    logging.disable()
    try:
        url = context.params.get("url") or default_url()
        file = file_of(url)
        if file is None or not file.is_file():
            return []  # a server may take seconds to answer
        with opened(url) as client:
            return sorted(word for word in words(client) if word.startswith(incomplete))
    except Exception:  # noqa: BLE001 - an error here would be printed into the line that somebody types
        return []


def _asked(context: click.Context, client: KSQLDBClient, question: Callable[[Asset], Iterable[str]]) -> Iterable[str]:
    with Asset(context.params["asset_uuid"], client) as asset:
        return question(asset)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes your shell complete.

    It completes commands, and the UUIDs, attribute ids and method names of the factory. Add the line of your shell to
    its start-up file:

    \b
      bash, in ~/.bashrc:                     eval "$(ofa completion bash)"
      zsh, in ~/.zshrc:                       eval "$(ofa completion zsh)"
      fish, in ~/.config/fish/config.fish:    ofa completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "ofa", COMPLETE_VARIABLE).source())
