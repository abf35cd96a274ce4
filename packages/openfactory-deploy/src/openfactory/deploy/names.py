"""Names that targets and gateways accept, made from UUIDs and host names of apps."""

from __future__ import annotations

import re

__all__ = ["MAX_LABEL", "normalised_name", "path_prefix"]

#: Characters that a label of a host name may have.
MAX_LABEL = 63


def normalised_name(text: str) -> str:
    """Return a text as a label of a host name: lower case, and a hyphen for all that is no letter a-z and no digit.

    `My_App_123` gives `my-app-123`. A text without any letter or digit gives an empty name; a long one a name that is
    longer than `MAX_LABEL`. Both are refused when the files are checked.
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def path_prefix(uuid: str) -> str:
    """Return the path below which a gateway has the web pages of an asset on `localhost`, such as `/my-app`."""
    return f"/{normalised_name(uuid)}"
