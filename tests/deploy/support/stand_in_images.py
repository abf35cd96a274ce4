"""Images for the servers of compose.yml whose own images are in registries, which a test does not ask.

Each has the real server, from the programs of this machine and of the tests, below the names that compose.yml uses.
What they do not show: that the image of the maker takes the same variables and has the same commands.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

from distributions import ROOT
from servers import DockerEngine
from servers.archive import Archive
from servers.fetching import program
from servers.interpreter import Interpreter
from servers.kafka_files import kafka_jars
from servers.pinned import traefik
from servers.python_image import root_layer

__all__ = ["load_kafka", "load_nats", "load_traefik"]

_JAVA = "java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*'"

# As the script of the image does it: Kafka's own class makes properties of the variables, and formats the data.
_RUN_KAFKA = f"""#!/bin/sh
set -e
export CLUSTER_ID="${{CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}}"
mkdir -p /mnt/shared/config /opt/kafka/config
{_JAVA} kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker \\
  --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config
exec {_JAVA} kafka.Kafka /opt/kafka/config/server.properties
"""

# The class of the real command is in no archive that a broker needs.
_API_VERSIONS = """#!/usr/local/bin/python3
import socket, struct, sys
host, port = sys.argv[2].split(":")
with socket.create_connection((host, int(port)), timeout=5) as connection:
    connection.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
    sys.exit(0 if len(connection.recv(4)) == 4 else 1)
"""

_LOG4J = """Configuration:
  Appenders:
    Console: {name: STDOUT}
  Loggers:
    Root: {level: ERROR, AppenderRef: {ref: STDOUT}}
"""


def image_of(service: str) -> str:
    """The image that compose.yml names for a service."""
    found = re.search(rf"^  {service}:\n    image: (\S+)$", (ROOT / "compose.yml").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def load_kafka(engine: DockerEngine) -> None:
    """Load the stand-in for the image of Kafka: this machine's Java, and the Kafka of the tests."""

    def add(archive: Archive) -> None:
        java = Path(program("java", "default-jre-headless")).resolve()
        home = java.parent.parent
        # Debian has the settings of a Java elsewhere, and links there.
        outside = {path.resolve().parent for path in home.rglob("*") if path.is_symlink() and path.is_file()}
        libraries = archive.add_tree(home, str(home).lstrip("/"), {"docs", "include", "jmods", "legal", "man"})
        for folder in sorted(outside):
            archive.add_tree(folder, str(folder).lstrip("/"), set())
        archive.add_link("usr/local/bin/java", str(java))
        archive.add_libraries_of([java, *libraries])
        archive.add_tree(kafka_jars(), "opt/kafka/libs", set())
        archive.add_bytes("etc/kafka/docker/run", _RUN_KAFKA.encode(), mode=0o755)
        archive.add_bytes("opt/kafka/bin/kafka-broker-api-versions.sh", _API_VERSIONS.encode(), mode=0o755)
        archive.add_bytes("etc/kafka/docker/server.properties", b"")
        for name in ("log4j2.yaml", "tools-log4j2.yaml"):
            archive.add_bytes(f"etc/kafka/docker/{name}", _LOG4J.encode())

    _load(engine, image_of("kafka"), add, Cmd=["/etc/kafka/docker/run"])


def load_nats(engine: DockerEngine) -> None:
    """Load the stand-in for the image of NATS: the nats-server of this machine."""

    def add(archive: Archive) -> None:
        archive.add(Path(program("nats-server", "nats-server")).resolve(), "usr/local/bin/nats-server")

    _load(engine, image_of("nats"), add, Entrypoint=["nats-server"])


def load_traefik(engine: DockerEngine) -> None:
    """Load the stand-in for the image of Traefik: the Traefik of the tests."""

    def add(archive: Archive) -> None:
        archive.add(traefik(), "usr/local/bin/traefik")

    _load(engine, image_of("traefik"), add, Entrypoint=["traefik"])


def _load(engine: DockerEngine, tag: str, add: Callable[[Archive], None], **settings: object) -> None:
    python = Interpreter.of()
    layer = io.BytesIO()
    with Archive(layer) as archive:
        add(archive)
    engine.load_image(tag, [root_layer(python), layer.getvalue()], **settings)
