"""The encoding of names that need not be UTF-8: other bytes are surrogates, as in names of this machine."""

from __future__ import annotations

import codecs

__all__ = ["ANY_UTF8"]

ANY_UTF8 = "ofa_any_utf8"


def _codec(name: str) -> codecs.CodecInfo | None:
    if name != ANY_UTF8:
        return None
    utf8 = codecs.lookup("utf-8")
    return codecs.CodecInfo(
        name=ANY_UTF8,
        encode=lambda text, _="": utf8.encode(text, "surrogateescape"),
        decode=lambda data, _="": utf8.decode(data, "surrogateescape"),
        incrementalencoder=lambda _="": utf8.incrementalencoder("surrogateescape"),
        incrementaldecoder=lambda _="": utf8.incrementaldecoder("surrogateescape"),
    )


codecs.register(_codec)
