"""Shell completion of UUIDs, attribute ids and method names; it prints no errors and creates no files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import click
from click.shell_completion import get_completion_class

from openfactory.apps.cli.target import default_url, file_of, open_factory
from openfactory.assets import Asset, Factory

__all__ = ["complete_asset_uuid", "complete_attribute_id", "complete_method", "completion"]

#: Environment variable by which a shell requests completions.
COMPLETE_VARIABLE = "_OFA_COMPLETE"


def complete_asset_uuid(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's signature
    """Complete the UUIDs of registered assets."""
    return _matching(context, incomplete, Factory.assets)


def complete_attribute_id(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Complete the attribute ids of the asset on the command line."""
    return _matching(context, incomplete, lambda factory: _names(context, factory, Asset.attributes))


def complete_method(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Complete the methods of the asset on the command line."""
    return _matching(context, incomplete, lambda factory: _names(context, factory, Asset.methods))


def _matching(context: click.Context, incomplete: str, words: Callable[[Factory], Iterable[str]]) -> list[str]:
    """Return the words that begin with the typed text, sorted.

    The result is empty if the factory is not a file, because a server may take seconds to answer.
    """
    logging.disable()
    try:
        url = context.params.get("url") or default_url()
        file = file_of(url)
        if file is None or not file.is_file():
            return []
        with open_factory(url) as factory:
            return sorted(word for word in words(factory) if word.startswith(incomplete))
    except Exception:  # noqa: BLE001 - an error would be printed into the command line
        return []


def _names(context: click.Context, factory: Factory, names: Callable[[Asset], Iterable[str]]) -> Iterable[str]:
    with factory.asset(context.params["asset_uuid"]) as asset:
        return names(asset)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    The script completes commands, and the UUIDs, attribute ids and method names of the factory. Add the line for your
    shell to its start-up file:

    \b
      bash, in ~/.bashrc:                     eval "$(ofa completion bash)"
      zsh, in ~/.zshrc:                       eval "$(ofa completion zsh)"
      fish, in ~/.config/fish/config.fish:    ofa completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "ofa", COMPLETE_VARIABLE).source())
