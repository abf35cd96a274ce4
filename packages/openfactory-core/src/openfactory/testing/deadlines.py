"""Tests of the time of the log: the age of a command, and its cancel, whatever the wall clocks show."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from openfactory.assets import Asset
from openfactory.commands import CommandEnvelope
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.engines import Engine
from openfactory.events.event import AssetEvent
from openfactory.exceptions import CommandTimeout
from openfactory.kafka import KSQLDBClient
from openfactory.testing.waiting import eventually

__all__ = ["DeadlineConformance"]


class DeadlineConformance:
    """Tests of commands that come too late or are cancelled, with the app played by hand.

    Attributes:
        log_has_a_clock: whether the engine knows the age of a command that has just been sent.
    """

    log_has_a_clock = True

    @pytest.fixture
    def sender(self, engine_url: str, asset_uuid: str) -> Iterator[Asset]:
        """The asset, as its callers have it."""
        with KSQLDBClient(engine_url) as client, Asset(asset_uuid, client) as asset:
            yield asset

    @pytest.fixture
    def arrived(self, engine: Engine, asset_uuid: str) -> list[tuple[AssetEvent, float | None]]:
        """The commands and cancels that the asset receives, each with its age when it arrived."""
        arrived: list[tuple[AssetEvent, float | None]] = []
        engine.subscribe(asset_uuid, lambda event: arrived.append((event, engine.age(event))))
        return arrived

    @pytest.mark.parametrize("days", [-1, 0, 1])
    def test_the_age_of_a_command_is_measured_by_the_time_of_the_log(
        self,
        engine: Engine,
        sender: Asset,
        arrived: list[tuple[AssetEvent, float | None]],
        days: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = boot_seconds()
        for n in range(2):  # the first write of a process to its log is special
            sender.method("move", "TEST", {"n": n}, timeout=90)
            sender.flush()
        eventually(lambda: len(arrived) == 2)
        true_time, true_time_ns = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: true_time() + days * 86_400)
        monkeypatch.setattr(time, "time_ns", lambda: true_time_ns() + days * 86_400_000_000_000)
        for command, age in arrived:
            assert (command.attributes or {})["timeout"] == "90"
            assert (age is not None) == self.log_has_a_clock
            assert 0 <= (age or 0) <= boot_seconds() - before + 0.1
        if not self.log_has_a_clock:
            return
        command, age = arrived[1]
        asked = boot_seconds()
        eventually(lambda: (engine.age(command) or 0) >= (age or 0) + 0.3)
        assert boot_seconds() - asked < 60
        sender.method("move", "TEST", {"n": 2}, timeout=90)
        eventually(lambda: len(arrived) == 3)
        assert 0 <= (arrived[2][1] or 0) < 60

    def test_a_command_of_another_program_has_no_age(
        self, engine: Engine, asset_uuid: str, arrived: list[tuple[AssetEvent, float | None]]
    ) -> None:
        engine.publish(CommandEnvelope.addressed("TEST", {}).event(asset_uuid, "move")).wait()
        eventually(lambda: len(arrived) == 1)
        assert arrived[0][1] is None

    def test_a_caller_that_gives_up_says_so(
        self, engine: Engine, sender: Asset, asset_uuid: str, arrived: list[tuple[AssetEvent, float | None]]
    ) -> None:
        with pytest.raises(CommandTimeout) as caught:
            sender.call("move", sender_uuid="TEST", timeout=0.1)
        eventually(lambda: len(arrived) == 2)
        command, cancel = (event for event, _ in arrived)
        assert caught.value.correlation_id in command.value
        assert caught.value.correlation_id in cancel.value
        assert (cancel.id, cancel.tag, cancel.type) == ("commands_CANCEL", "Method.Cancel", "OpenFactory")
        commands = engine.history(asset_uuid, tag="Method.Command")
        assert [event.id for event in commands] == ["move_CMD"]  # an app that starts reads no cancels
        assert sender.attributes() == []
