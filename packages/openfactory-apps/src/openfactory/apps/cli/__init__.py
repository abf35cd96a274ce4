"""The command `ofa`: it runs an app file, and reads, watches, writes and commands assets.

Read in this order: `root` (the commands, and the handling of errors), `target` (the factory that they work on), `run`
and `reload`, the commands of `ofa asset` (`inspect`, `watch`, `write`), `output` and `completion`.
"""

from openfactory.apps.cli.root import main

__all__ = ["main"]
