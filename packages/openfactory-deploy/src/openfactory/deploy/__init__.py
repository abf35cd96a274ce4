"""From an app's YAML file to a running, routed, registered app.

Start with `files` and `reading`, which read and check the files, and `app`, the values that come of them.
`environment` gives an app its variables and mounts. `targets` are the places where apps run, `gateway` brings their
pages to browsers. `planning` compares the files with what runs and what is registered, `rollout` does what the
plan says, and `cli` is `ofa apps`.
"""

from openfactory.deploy.__about__ import __version__

__all__ = ["__version__"]
