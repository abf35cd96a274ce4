"""Events and their values, without I/O and threads; `openfactory.assets` exports the names that users need.

Read `timestamp`, `attribute` and `event` first, then `message` (the wire format), `receipt` (the outcome of a write)
and `registration`.
"""

__all__: list[str] = []
