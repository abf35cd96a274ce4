"""Storages on servers and object stores, through fsspec: the type `fsspec`.

- `backend`: reads and writes the files of a URL.
- `configuration`: the settings.
- `session` and `filesystems`: connect to the filesystem of the URL, and connect again when the connection is lost.
- `protocols` and `kinds`: the table of the protocols, and the operations that differ between them.
- `forks`: keeps a forked child away from the connections and files of its parent.
- `keys` and `any_utf8`: names of files that are not paths, or not UTF-8.
- `file`, `folders`, `info`, `progress`, `sftp`, `sftp_client` and `spool`: single operations on a filesystem.
"""

from openfactory.storage.remote.backend import RemoteBackend
from openfactory.storage.remote.configuration import RemoteConfiguration

__all__ = ["RemoteBackend", "RemoteConfiguration"]
