"""Tests of commands: the error of each reply, and one rule for the values of attributes, arguments and results."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest

from openfactory.assets import Asset
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines import Engine
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.exceptions import CommandError, CommandFailed, CommandRejected, CommandUnknown, InvalidEventError
from openfactory.kafka import KSQLDBClient

__all__ = ["CommandingConformance"]


class _Side(enum.Enum):
    LEFT = "left"


@dataclass
class _Position:
    x: Decimal
    path: PurePosixPath
    sides: tuple[_Side, ...] = field(default=(_Side.LEFT,))


_CONVERTED: list[tuple[Any, Any]] = [
    (_Position(Decimal("1.50"), PurePosixPath("a/b")), {"x": "1.50", "path": "a/b", "sides": ["left"]}),
    (
        {1: UUID(int=7), "at": datetime(2026, 11, 21, 7, 30, tzinfo=UTC)},
        {"1": str(UUID(int=7)), "at": "2026-11-21T07:30:00Z"},
    ),
]

_REFUSED = [b"bytes", [bytearray(b"bytes")], {b"key": 1}, [float("nan")], {"1": 1, 1: 2}]


class CommandingConformance:
    """Tests of commands and replies, with the app played by hand."""

    @pytest.fixture
    def caller(self, engine_url: str, asset_uuid: str) -> Iterator[Asset]:
        """The asset, as its callers have it."""
        with KSQLDBClient(engine_url) as client, Asset(asset_uuid, client) as asset:
            yield asset

    def test_each_status_of_a_reply_has_its_error(self, engine: Engine, caller: Asset, asset_uuid: str) -> None:
        errors: dict[str, type[CommandError]] = {
            "rejected": CommandRejected,
            "failed": CommandFailed,
            "unknown": CommandUnknown,
        }
        _answer(engine, asset_uuid, lambda envelope: {"status": envelope.arguments["status"], "error": "too far"})
        for status, error in errors.items():
            with pytest.raises(CommandError, match="too far") as caught:
                caller.call("move", sender_uuid="TEST", status=status, timeout=60)
            assert type(caught.value) is error
        assert caller.call("move", sender_uuid="TEST", status="succeeded", timeout=60) is None

    def test_attributes_arguments_and_results_are_converted_alike(
        self, engine: Engine, caller: Asset, asset_uuid: str
    ) -> None:
        arguments: list[str] = []

        def result(envelope: CommandEnvelope) -> dict[str, Any]:
            arguments.append(envelope.arguments["value"])
            return {"status": "succeeded", "result": _CONVERTED[int(envelope.arguments["n"])][0]}

        _answer(engine, asset_uuid, result)
        for n, (value, plain) in enumerate(_CONVERTED):
            caller.add_attribute(AssetAttribute("value", value, "Events", "Test"), timeout=60)
            assert caller["value"].value == plain
            assert caller.call("move", sender_uuid="TEST", n=n, value=value, timeout=60) == plain
            assert json.loads(arguments[-1]) == plain

    def test_attributes_arguments_and_results_are_refused_alike(self, caller: Asset, asset_uuid: str) -> None:
        for value in _REFUSED:
            with pytest.raises(InvalidEventError):
                caller.add_attribute(AssetAttribute("value", value, "Events", "Test"))
            with pytest.raises((InvalidEventError, TypeError)):
                caller.method("move", sender_uuid="TEST", args={"value": value})
            with pytest.raises(InvalidEventError):
                CommandReply(UUID(int=7), "succeeded", value).event(asset_uuid, "move")


def _answer(engine: Engine, asset_uuid: str, reply: Callable[[CommandEnvelope], dict[str, Any]]) -> None:
    """Answer each command to an asset, as an app does."""

    def answer(event: AssetEvent) -> None:
        if event.id == "move_CMD":
            envelope = CommandEnvelope.parse(event.value)
            engine.publish(CommandReply(envelope.header.correlation_id, **reply(envelope)).event(asset_uuid, "move"))

    engine.subscribe(asset_uuid, answer)
