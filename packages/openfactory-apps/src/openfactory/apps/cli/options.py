"""Arguments and options shared by several commands."""

from __future__ import annotations

import click

from openfactory.apps.cli.completion import complete_asset_uuid, complete_attribute_id, complete_method

__all__ = ["asset_uuid_argument", "attribute_id_argument", "json_option", "method_argument", "url_option"]

asset_uuid_argument = click.argument("asset_uuid", metavar="UUID", shell_complete=complete_asset_uuid)

attribute_id_argument = click.argument("attribute_id", metavar="ID", shell_complete=complete_attribute_id)

method_argument = click.argument("method", metavar="METHOD", shell_complete=complete_method)

url_option = click.option(
    "--url",
    metavar="URL",
    help="Location of the factory, such as sqlite:///factory.db.  [default: $KSQLDB_URL, else ./factory.db]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON in the form shown above.")
