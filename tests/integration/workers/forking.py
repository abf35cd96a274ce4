"""Processes that fork: `forking.py WHAT`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from openfactory.apps import OpenFactoryApp
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

URL = setting("KSQLDB_URL") or ""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def number(value: int) -> AssetAttribute:
    return AssetAttribute(id="number", value=value, type="Events", tag="Number")


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child does the work and ends as a Python program ends. Gives back its exit status."""
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends a child that hangs
        work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refused(what: str, attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except OpenFactoryError as error:
        say(f"{what}: {type(error).__name__}: {error}")
    else:
        say(f"{what}: went through")


def with_the_engine_open() -> None:
    """The child may not use what the parent has open; the parent goes on."""
    with KSQLDBClient(URL) as client, Asset("PARENT", client) as asset:
        asset.add_attribute(number(0))

        def work() -> None:
            refused("write", lambda: asset.__setitem__("number", -1))
            refused("flush", asset.flush)
            refused("query", lambda: client.query("SELECT * FROM assets"))
            say("connected:", client.engine.health().connected)
            refused("open", lambda: Asset("CHILD", KSQLDBClient(URL)).add_attribute(number(1)))

        say("child ended with", in_child(work))
        for value in range(1, 101):
            asset["number"] = value
        asset.flush()
        say("parent wrote", asset["number"].value)


def during_a_delivery() -> None:
    """The fork comes while another thread hands an event on."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(event: AssetEvent) -> None:
        entered.set()
        go_on.wait(10)

    with KSQLDBClient(URL) as client, Asset("PARENT", client) as asset:
        client.engine.subscribe("PARENT", hold)
        asset.add_attribute(number(0))
        entered.wait()
        say("child ended with", in_child(lambda: refused("write", asset.flush)))
        go_on.set()
        asset.add_attribute(number(1))
        say("parent wrote", asset["number"].value)


def before_it_is_opened() -> None:
    """What is closed before a fork may be opened by both after it."""
    with KSQLDBClient(URL) as client, Asset("PARENT", client) as asset:
        asset.add_attribute(number(0))

    def work(uuid: str) -> None:
        with KSQLDBClient(URL) as client, Asset(uuid, client) as asset:
            for value in range(100):
                asset.add_attribute(number(value), wait_to_become_available=False)
            asset.flush()

    say("child ended with", in_child(lambda: work("CHILD")))
    work("PARENT")
    say("parent wrote 99")


class Forks(OpenFactoryApp):
    """Computes something in children, which end or are ended."""

    def main_loop(self) -> None:
        say("child ended with", in_child(lambda: None))
        fork = multiprocessing.get_context("fork")
        with fork.Pool(2) as pool:
            say("pool computed", pool.map(abs, [-1, -2, -3]))
        child = fork.Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(60)
        say("child is alive:", child.is_alive())
        time.sleep(2.5)  # more than a stop_timeout of 1 s takes to stop the app, if it were asked to
        say("going on")
        time.sleep(60)


def leaves_a_child() -> None:
    """Writes without a pause, and has a child that lives on when it is killed."""
    with KSQLDBClient(URL) as client, Asset("PARENT", client) as asset:
        asset.add_attribute(number(0))
        child = os.fork()
        if child == 0:
            signal.pause()
        say(f"child {child}")
        while True:
            asset.add_attribute(number(1))


WHAT: dict[str, Callable[[], None]] = {
    "with_the_engine_open": with_the_engine_open,
    "during_a_delivery": during_a_delivery,
    "before_it_is_opened": before_it_is_opened,
    "app": lambda: Forks(KSQLDBClient(URL), stop_timeout=1.0).run(),
    "leaves_a_child": leaves_a_child,
}

if __name__ == "__main__":
    WHAT[sys.argv[1]]()
