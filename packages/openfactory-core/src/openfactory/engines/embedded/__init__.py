"""The embedded engine: a factory in one SQLite file or in memory, without a server.

Read in this order: `schema.sql`, `database` (connections and the lock), `writer` and `insertion` (from publish to
commit), `wake` and `tail` (from commit to subscribers), `queries` (snapshots and histories), `upkeep` with
`position_index` and `removal` (the index of histories and the bounds of the log), `engine` (the interface). `copies`,
`pruning`, `inspection` and `exclusion` are for `ofa db`.
"""

from openfactory.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
