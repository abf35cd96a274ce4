"""Starts one server in the foreground, for benchmarks and for trying things out. Run it in `scripts/`.

python -m servers kafka                   a broker, until Ctrl-C; its address is the first line
python -m servers nats                    a nats-server
python -m servers nginx /my-app 4000      nginx as a gateway: the app at port 4000 is behind its /my-app
python -m servers traefik /my-app 4000    the same by Traefik, which is fetched first
python -m servers docker                  an empty Docker in namespaces of its own, as root
python -m servers fetch                   fetches what the tests start, so that no test waits for it
"""

from __future__ import annotations

import signal
import sys

from servers.docker_engine import DockerEngine
from servers.fetching import NotOnThisMachineError
from servers.gateway import Route
from servers.kafka_broker import KafkaBroker
from servers.nats_server import NatsServer
from servers.nginx_server import NginxServer
from servers.pinned import docker_compose, traefik
from servers.python_image import apps_layers
from servers.server import Server, ServerFailedError
from servers.toxiproxy import Toxiproxy
from servers.traefik_server import TraefikServer


def _foreground(server: Server, address: str) -> None:
    # Like Ctrl-C, so that it is stopped either way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with server:
            print(address, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return


def _fetch() -> None:
    """Each is started once, so that what is missing is said here."""
    for server in (KafkaBroker(), Toxiproxy(), NatsServer(), NginxServer([]), DockerEngine()):
        with server:
            print(f"{server.name} runs", flush=True)
    apps_layers()
    print("the layers of the image of apps are there", flush=True)
    for program in (traefik(), docker_compose()):
        print(f"{program.name} is there", flush=True)


def main(arguments: list[str]) -> None:
    """Entry point of the command."""
    match arguments:
        case ["kafka"]:
            broker = KafkaBroker(auto_create_topics=True)
            _foreground(broker, broker.bootstrap_servers)
        case ["nats"]:
            nats = NatsServer()
            _foreground(nats, nats.url)
        case ["docker"]:
            engine = DockerEngine()
            _foreground(engine, engine.host)
        case ["nginx" | "traefik" as which, prefix, port]:
            route = Route(int(port), prefix=prefix)
            gateway = NginxServer([route]) if which == "nginx" else TraefikServer([route])
            _foreground(gateway, f"http://localhost:{gateway.port}{prefix}/")
        case ["fetch"]:
            _fetch()
        case _:
            sys.exit("Say which: python -m servers kafka, nats, docker, nginx, traefik or fetch")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (NotOnThisMachineError, ServerFailedError) as error:
        sys.exit(str(error))
