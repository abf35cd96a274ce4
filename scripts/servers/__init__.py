"""Real servers for tests, benchmarks and the demo: on 127.0.0.1, with ports and data of their own, always stopped.

    with KafkaBroker() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})

Kafka and toxiproxy are fetched once a checkout, into `.servers/`; nats-server is the one of the machine. Only the
standard library is needed, so that CI can fetch before it has installed anything.
"""

from __future__ import annotations

from servers.certificates import Certificates, make_certificates
from servers.fetching import NotOnThisMachineError
from servers.kafka_broker import KafkaBroker
from servers.nats_server import NatsServer, nats_cluster
from servers.ports import free_port
from servers.server import Server, ServerFailedError, is_running
from servers.toxiproxy import Proxy, Toxiproxy

__all__ = [
    "Certificates",
    "KafkaBroker",
    "NatsServer",
    "NotOnThisMachineError",
    "Proxy",
    "Server",
    "ServerFailedError",
    "Toxiproxy",
    "free_port",
    "is_running",
    "make_certificates",
    "nats_cluster",
]
