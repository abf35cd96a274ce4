"""The services of a factory of many machines, between Kafka and the apps.

Start with `ring`, which gives each asset its NATS cluster, and `settings`, which reads the clusters from the
environment. `router` is the asset router, `keeper` the state keeper,
`forwarder` the asset forwarder, and `cli` the command `ofa fanout`.
"""

from openfactory.fanout.__about__ import __version__
from openfactory.fanout.ring import HashRing
from openfactory.fanout.settings import clusters_from_environment, ring_of

__all__ = ["HashRing", "__version__", "clusters_from_environment", "ring_of"]
