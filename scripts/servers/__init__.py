"""Real servers for tests, benchmarks and the demo: on 127.0.0.1, with ports and data of their own, always stopped.

    with KafkaBroker() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})

Kafka, toxiproxy and Traefik are fetched once a checkout, into `.servers/`; nats-server, nginx and Docker are those of
the machine. Only the standard library is needed, so that CI can fetch before it has installed anything.
"""

from __future__ import annotations

from servers.certificates import Certificates, make_certificates
from servers.docker_engine import DockerEngine
from servers.fetching import NotOnThisMachineError
from servers.gateway import Gateway, Route
from servers.kafka_broker import KafkaBroker
from servers.nats_server import NatsServer, nats_cluster
from servers.nginx_server import NginxServer
from servers.ports import free_port
from servers.server import Server, ServerFailedError, is_running
from servers.shared import shared_broker
from servers.toxiproxy import Proxy, Toxiproxy
from servers.traefik_server import TraefikServer

__all__ = [
    "Certificates",
    "DockerEngine",
    "Gateway",
    "KafkaBroker",
    "NatsServer",
    "NginxServer",
    "NotOnThisMachineError",
    "Proxy",
    "Route",
    "Server",
    "ServerFailedError",
    "Toxiproxy",
    "TraefikServer",
    "free_port",
    "is_running",
    "make_certificates",
    "nats_cluster",
    "shared_broker",
]
