"""Kafka's own files, by Maven, and the Java command that runs a class of them."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from servers.fetching import NotOnThisMachineError, fetched, program, run

__all__ = ["java_command", "kafka_jars", "kafka_version"]

_POM = Path(__file__).with_name("pom.xml")
_JAVA = "default-jre-headless"
_LEAST_JAVA = 17

# A broker of a test lives for seconds: it starts quickly with little memory, and is never compiled to the full.
_JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # says when it has started
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


def kafka_version() -> str:
    """What tells the files of one pom.xml from those of another, in the names of the cache."""
    return f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"


def kafka_jars() -> Path:
    """The folder with what pom.xml names.

    Raises:
        NotOnThisMachineError: it could not be fetched.
    """
    return fetched(kafka_version(), _fetch)


def java_command(main_class: str, *arguments: str | Path, options: tuple[str, ...] = ()) -> list[str]:
    """What runs a class of Kafka.

    Raises:
        NotOnThisMachineError: there is no Java, or Kafka could not be fetched.
    """
    # Sorted, since a class archive is for one class path only.
    classpath = ":".join(str(jar) for jar in sorted(kafka_jars().glob("*.jar")))
    return [program("java", _JAVA), *_JVM_OPTIONS, *options, "-cp", classpath, main_class, *map(str, arguments)]


def _fetch(folder: Path) -> None:
    _check_java()
    # A repository of its own: nothing is left outside the checkout, and no other Maven writes into it meanwhile.
    # Where packages come from is set on the machine.
    repository = folder / "repository"
    run(
        program("mvn", "maven"),
        "--batch-mode",
        "--quiet",
        f"--file={_POM}",
        f"-Dmaven.repo.local={repository}",
        f"-DoutputDirectory={folder}",
        "dependency:copy-dependencies",
    )
    shutil.rmtree(repository)


def _check_java() -> None:
    said = run(program("java", _JAVA), "-version")
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < _LEAST_JAVA:
        raise NotOnThisMachineError(
            f"Kafka needs Java {_LEAST_JAVA} or later, and `java -version` says: {said.splitlines()[0]}. "
            f"Put a later one first on PATH, or install it: apt-get install {_JAVA}"
        )
