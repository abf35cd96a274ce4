"""The services of a factory of many machines, between Kafka and the apps.

Start with `ring`, which gives each asset its NATS cluster, and `settings`, which reads the clusters from the
environment.
"""

from openfactory.fanout.__about__ import __version__
from openfactory.fanout.ring import HashRing
from openfactory.fanout.settings import ring_from_environment

__all__ = ["HashRing", "__version__", "ring_from_environment"]
