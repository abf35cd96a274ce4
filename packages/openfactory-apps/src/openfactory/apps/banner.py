"""The welcome banner: what an app says of itself on standard output when it starts."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["banner_text"]

_LINE = "-" * 60


def banner_text(asset_uuid: str, place: str, said: Mapping[str, str]) -> str:
    """The banner of an app.

    Args:
        asset_uuid: the app.
        place: the URL of its data.
        said: its standard attributes by id.
    """
    rows = (
        ("Version", said["application_version"]),
        ("Manufacturer", said["application_manufacturer"]),
        ("License", said["application_license"]),
        ("Data", place),
        ("OpenFactory", f"{said['openfactory_version']}, {said['openfactory_manufacturer']}"),
        ("", said["openfactory_license"]),
    )
    return "\n".join((_LINE, f"  {asset_uuid}", _LINE, *(f"  {name:13} {value}" for name, value in rows), _LINE))
