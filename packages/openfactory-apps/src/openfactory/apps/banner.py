"""The welcome banner, which an app prints when it starts."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["banner_text"]

_LINE = "-" * 60


def banner_text(asset_uuid: str, url: str, values: Mapping[str, str]) -> str:
    """Return the welcome banner of an app.

    Args:
        asset_uuid: UUID of the app.
        url: URL of its data, without secrets.
        values: values of its standard attributes by id.
    """
    rows = (
        ("Version", values["application_version"]),
        ("Manufacturer", values["application_manufacturer"]),
        ("License", values["application_license"]),
        ("Data", url),
        ("OpenFactory", f"{values['openfactory_version']}, {values['openfactory_manufacturer']}"),
        ("", values["openfactory_license"]),
    )
    return "\n".join((_LINE, f"  {asset_uuid}", _LINE, *(f"  {name:13} {value}" for name, value in rows), _LINE))
