"""URLs without their secrets, for banners, logs, errors and reports."""

from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["is_secret", "redacted"]

# The user name and password of a URL, up to the @, even if a slash in the password hides the @ from URL parsers.
_USERINFO = re.compile(r"://(?:[^/?#\s]*@|[^/?#\s:\[]*:(?!\d*(?:[/?#\s,]|$))\S*@)")

# A parameter whose name tells that its value is secret, or is written with escapes. The value goes up to the next
# parameter: a `#` or a `;` may be a part of a password that is not quoted.
_SECRET_PARAMETER = re.compile(
    r"([?&;](?:[^\s?&;=]*(?:pass|pwd|secret|token|key|credential|auth|signature|jwt|%)[^\s?&;=]*|pw|pin|sig)=)[^\s&]*",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Return whether an option with this name may have a secret as its value.

    >>> is_secret("sasl.password"), is_secret("access_key_id"), is_secret("prefix")
    (True, True, False)
    """
    return _SECRET_PARAMETER.match(f"?{quote(name)}=") is not None


def redacted(text: str) -> str:
    """Return a URL, or a text that contains URLs, without user names, passwords and secret parameters.

    >>> redacted("no answer from nats://app:secret@plant:4222")
    'no answer from nats://plant:4222'
    >>> redacted("kafka://plant:9092?prefix=hall2_&sasl.password=secret")
    'kafka://plant:9092?prefix=hall2_&sasl.password=***'
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USERINFO.sub("://", text))
