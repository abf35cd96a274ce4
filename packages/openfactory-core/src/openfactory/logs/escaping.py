"""Text from outside in a line of the log."""

__all__ = ["escaped"]


def escaped(text: str) -> str:
    r"""Return a text in ASCII, with escapes for all other characters, such as those that control a terminal.

    >>> escaped("GET /\x1b[31m")
    'GET /\\x1b[31m'
    """
    return text.encode("unicode_escape").decode("ascii")
