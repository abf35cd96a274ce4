"""Hook of PyInstaller: the engines are imported by their name, and read their schemas from files.

The engines, the tables of settings and the storage types of other distributions are named by entry points.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_entry_point, collect_submodules

hiddenimports = collect_submodules("openfactory.engines")
datas = collect_data_files("openfactory.engines")
for group in ("openfactory.engines", "openfactory.settings", "openfactory.storage_backends"):
    group_datas, group_imports = collect_entry_point(group)
    datas += group_datas
    hiddenimports += group_imports
