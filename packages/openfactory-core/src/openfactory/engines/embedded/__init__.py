"""The embedded engine: a whole factory in one SQLite file, or in memory, with no server.

Read in this order: `schema.sql`, `database` (who may touch the file, and when), `writer` and `insertion` (from publish
to commit), `wake` and `tail` (from commit to subscribers), `queries` (snapshots and tables), `engine` (the verbs).
"""

from openfactory.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
