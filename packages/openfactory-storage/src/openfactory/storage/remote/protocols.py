"""The table of the protocols of fsspec."""

from __future__ import annotations

from openfactory.storage.remote.any_utf8 import ANY_UTF8
from openfactory.storage.remote.kinds import Memory, ObjectStore, Protocol, Smb, WebDav

__all__ = ["protocol_of"]

_LOCAL = 'url is a folder of this machine. Use {"type": "local"}, which keeps every path inside the folder'
_WEB_SITE = "url is a web site, which has no folders. Use webdav, s3, or 'zip://::https://…'"

# Without a timeout the client of SSH waits for a silent server forever. s3fs retries by itself: if botocore retried as
# well, a request would fail only after twenty minutes.
_TIMEOUT = 30.0
_S3_TIMEOUTS = {"connect_timeout": 10, "read_timeout": _TIMEOUT, "retries": {"max_attempts": 0}}

# Of all object stores. S3 answers with "Bad Request" to a longer one.
_LONGEST_KEY = 1_024

_TABLE = {
    ("memory",): Memory(),
    ("s3", "s3a"): ObjectStore(
        appends=True,
        exclusive_mode="x",
        version_mark="?versionId=",
        any_segment=True,
        longest_key=_LONGEST_KEY,
        options={"config_kwargs": _S3_TIMEOUTS},
    ),
    ("gs", "gcs", "abfs", "abfss", "az", "oci", "ocilake", "oss", "tos"): ObjectStore(longest_key=_LONGEST_KEY),
    ("sftp", "ssh"): Protocol(appends=True, exclusive_mode="wx", login_in_options=True, options={"timeout": _TIMEOUT}),
    ("smb",): Smb(appends=True, login_in_options=True),
    ("ftp",): Protocol(login_in_options=True, options={"encoding": ANY_UTF8}),
    ("webdav", "dav"): WebDav(),
    ("libarchive", "tar", "zip"): Protocol(read_only=True, any_segment=True),
    ("data", "gist", "git", "github"): Protocol(read_only=True),
    ("", "file", "local"): Protocol(refusal=_LOCAL),
    ("http", "https"): Protocol(refusal=_WEB_SITE),
}
_BY_SCHEME = {scheme: protocol for schemes, protocol in _TABLE.items() for scheme in schemes}
_OTHER = Protocol()


def protocol_of(scheme: str) -> Protocol:
    """Return the protocol of a scheme. A scheme that is not in the table counts as a server with folders."""
    return _BY_SCHEME.get(scheme, _OTHER)
