"""Storages in a folder of this machine or container: the types `local` and `nfs`.

- `backend`: reads and writes the files of a folder.
- `confinement`: opens files beneath the folder, and never a file outside of it.
- `local` and `nfs`: the settings of each type, and the mount that a container needs.
- `settings`: checks of the settings of both types.
- `volumes`: moves a file or folder to another volume.
"""

from openfactory.storage.mounted.backend import MountedBackend
from openfactory.storage.mounted.local import LocalBackend, LocalConfiguration
from openfactory.storage.mounted.nfs import NFSBackend, NFSConfiguration

__all__ = ["LocalBackend", "LocalConfiguration", "MountedBackend", "NFSBackend", "NFSConfiguration"]
