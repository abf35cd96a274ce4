"""A real Kafka: one process that is broker and controller (KRaft)."""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, get_args

from servers.certificates import Certificates, make_certificates
from servers.fetching import fetched, run
from servers.kafka_files import java_command, kafka_jars, kafka_version
from servers.ports import HOST, free_port
from servers.server import Server

__all__ = ["SECURITIES", "KafkaBroker", "Security"]

#: What clients must show: with `mutual` a certificate, with `sasl_plaintext` and `sasl_ssl` a login.
Security = Literal["ssl", "mutual", "sasl_plaintext", "sasl_ssl"]
SECURITIES: tuple[Security, ...] = get_args(Security)

_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_PROTOCOLS = {"SSL": "SSL", "MUTUAL": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL"}

_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # 6 s by default: a test need not wait as long until the end of a process is known.
    "group.min.session.timeout.ms": "500",
    # After a kill the old session must expire before the broker is let in again: 9 s by default. Much less, and a busy
    # machine makes a healthy broker expire.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # 128 MiB by default, taken at the start.
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
}


class KafkaBroker(Server):
    """One broker; after `kill` or `stop` and `start` it has the same address and the same data.

    Args:
        auto_create_topics: whether a topic comes to be by the first message to it.
        properties: more of `server.properties`, or other values.
        secured: the port of each further listener, which lets in only who shows `certificates`, or `username` and
            `password`.
        certificates: those of the secured listeners; by default new ones.
        port: where it listens; without one at a free port.
        advertised: the address that clients are told, when they shall come through a proxy.
        further: port of one more listener, and the address that its clients are told.
    """

    name = "kafka"

    #: The only user, whatever the SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. OAUTHBEARER lets in any
    #: unsigned token (`"alg": "none"`) that has not expired.
    username: ClassVar[str] = "openfactory"
    password: ClassVar[str] = "secret-of-the-tests"

    def __init__(
        self,
        data_folder: Path | None = None,
        *,
        auto_create_topics: bool = False,
        properties: Mapping[str, str] | None = None,
        secured: Mapping[Security, int] | None = None,
        certificates: Certificates | None = None,
        port: int | None = None,
        advertised: str | None = None,
        further: tuple[int, str] | None = None,
    ) -> None:
        super().__init__(data_folder)
        self.port = port or free_port()
        #: What clients connect to.
        self.bootstrap_servers = advertised or f"{HOST}:{self.port}"
        #: Ports by what a client must show there.
        self.secured = dict(secured or {})
        self._further = further
        self._internal_port, self._controller_port = free_port(), free_port()
        self._properties = {"auto.create.topics.enable": str(auto_create_topics).lower(), **(properties or {})}
        self._certificates = certificates
        self._options: tuple[str, ...] | None = None

    @property
    def certificates(self) -> Certificates:
        """The authority that signed the broker's certificate, and a pair that a client may show."""
        if self._certificates is None:
            self._certificates = make_certificates(self.folder / "certificates")
        return self._certificates

    def address(self, security: Security) -> str:
        """What clients of a secured listener connect to."""
        return f"{HOST}:{self.secured[security]}"

    def close(self) -> None:
        super().close()
        self._certificates = None  # they may have gone with the folder

    def _prepare(self) -> None:
        if self._options is None:
            self._options = _with_class_archive()
        lines = [f"{key}={value}" for key, value in self._all_properties().items()]
        settings = self.folder / "server.properties"
        settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not (self.folder / "data").exists():
            shutil.copytree(fetched(f"{kafka_version()}-with-users", self._format), self.folder / "data")

    def _format(self, data: Path) -> None:
        """Make the data of a new broker, which is the same for all of them; the JVM takes seconds for it."""
        settings = self.folder / "format.properties"
        properties = self._all_properties() | {"log.dirs": str(data)}
        settings.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="utf-8")
        users = [f"--add-scram={name}=[name={self.username},password={self.password}]" for name in _SCRAM]
        run(
            *java_command(
                *("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", settings),
                *users,
                options=self._options or (),
            )
        )

    def _command(self) -> list[str]:
        return java_command("kafka.Kafka", self.folder / "server.properties", options=self._options or ())

    def _is_ready(self) -> bool:
        """A listening port is too early, and so is an answer: another listener may still fail."""
        try:
            knows_itself = _brokers_known_at(self._internal_port) > 0
        except OSError:
            return False
        return knows_itself and "Kafka Server started" in self.log

    def _all_properties(self) -> dict[str, str]:
        ports = {
            # The broker's own: nobody has to show anything there.
            "INTERNAL": self._internal_port,
            "CLIENT": self.port,
            **{security.upper(): port for security, port in self.secured.items()},
            **({"FURTHER": self._further[0]} if self._further else {}),
            "CONTROLLER": self._controller_port,
        }
        listeners = {name: f"{name}://{HOST}:{port}" for name, port in ports.items()}
        advertised = listeners | {"CLIENT": f"CLIENT://{self.bootstrap_servers}"}
        if self._further:
            advertised["FURTHER"] = f"FURTHER://{self._further[1]}"
        properties = {
            **_PROPERTIES,
            "log.dirs": str(self.folder / "data"),
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(advertised[name] for name in listeners if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{name}:{_PROTOCOLS.get(name, 'PLAINTEXT')}" for name in ports),
        }
        if self.secured:
            properties |= self._tls_properties() | self._sasl_properties()
        return properties | self._properties

    def _tls_properties(self) -> dict[str, str]:
        made = self.certificates
        both = self.folder / "keystore.pem"
        both.write_bytes(made.key_file.read_bytes() + made.certificate_file.read_bytes())
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(made.ca_file),
            "ssl.client.auth": "requested",
            "listener.name.mutual.ssl.client.auth": "required",
        }

    def _sasl_properties(self) -> dict[str, str]:
        package = "org.apache.kafka.common.security"
        modules = {
            "plain": f'{package}.plain.PlainLoginModule required user_{self.username}="{self.password}";',
            **{name.lower(): f"{package}.scram.ScramLoginModule required;" for name in _SCRAM},
            "oauthbearer": (
                f"{package}.oauthbearer.OAuthBearerLoginModule required "
                f'unsecuredLoginStringClaim_sub="{self.username}";'
            ),
        }
        return {
            "sasl.enabled.mechanisms": ",".join(name.upper() for name in modules),
            **{
                f"listener.name.{security}.{mechanism}.sasl.jaas.config": module
                for security in self.secured
                if security.startswith("sasl")
                for mechanism, module in modules.items()
            },
        }


class _RecordingBroker(KafkaBroker):
    """A broker whose JVM writes, when it stops, all classes that it used into one file."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        # Formatting has a JVM of its own, which needs no archive.
        self._options = ("-Xshare:auto",)
        self._archive = archive

    def _command(self) -> list[str]:
        return java_command(
            "kafka.Kafka", self.folder / "server.properties", options=(f"-XX:ArchiveClassesAtExit={self._archive}",)
        )


def _with_class_archive() -> tuple[str, ...]:
    """The options that give a JVM Kafka's classes ready-made: a broker then starts in half the time.

    An archive of another Java, as after an upgrade, is passed over by the JVM.
    """
    kafka_jars()  # before the archive, which is made of them
    archive = fetched(f"{kafka_version()}.jsa", _record)
    return ("-Xshare:auto", f"-XX:SharedArchiveFile={archive}")


def _record(archive: Path) -> None:
    with _RecordingBroker(archive) as broker:
        broker.stop(timeout=120)


def _brokers_known_at(port: int) -> int:
    """How many brokers the answer to a Metadata request names.

    Raises:
        OSError: nobody answers (in time), or the connection ends.
    """
    # Request: size, api key 3 (Metadata), its version 4, correlation id, no client id; no topics, none to be made.
    # Answer: size, correlation id, throttle time, count of the brokers, and more.
    request = struct.pack(">ihhihi?", 15, 3, 4, 1, -1, 0, False)
    with socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(request)
        head = b""
        while len(head) < 16:
            piece = connection.recv(16 - len(head))
            if not piece:
                raise ConnectionError("the broker ended the connection")
            head += piece
    brokers: int = struct.unpack(">iiii", head)[3]
    return brokers
