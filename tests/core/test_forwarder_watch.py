"""Which forwarders count as late: by their progress, by the offsets of their group, and by own writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from openfactory.engines.fanout.forwarder_watch import ForwarderWatch, Line
from openfactory.engines.fanout.late_assets import LateAssets
from openfactory.engines.fanout.live_asset import LiveAsset
from openfactory.engines.fanout.wire import Progress
from openfactory.engines.kafka_engine.log_reader import Partition

LINE = Line("nats://one", 0)
LOOK_SECONDS = 2.0


class World:
    """A watch, a clock, a log, and the forwarders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.end = 10
        self.committed: dict[int, int] = {}
        self.requests = 0
        self.is_looking = False
        self.connected_at: float | None = 0.0
        self.watch = ForwarderWatch(lambda: self.asked({0: self.end}), lambda: self.asked(self.committed), "group")
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def asked(self, answer: dict[int, int]) -> dict[int, int]:
        self.requests += 1
        return dict(answer)

    def tell(self, position: int | None = None) -> None:
        position = self.end if position is None else position
        self.watch.note_progress(*LINE, Progress(position, self.end, 0, "forwarder", "ofa_assets"))

    def go_on(self, seconds: float, step: Callable[[], None] = lambda: None) -> bool:
        """Whether the line is late after a while with a step each second."""
        for _ in range(int(seconds)):
            self.now += 1
            step()
            if not self.now % LOOK_SECONDS:
                self.watch.look({LINE.cluster: self.connected_at}, LOOK_SECONDS, {})
        return LINE in self.watch.late

    def is_in_time(self, seconds: float, step: Callable[[], None] = lambda: None) -> bool:
        """Whether the line is never late for a while."""
        late = [self.go_on(2, step) for _ in range(int(seconds / 2))]
        return not any(late)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_forwarder_that_tells_its_progress_costs_no_request(world: World) -> None:
    assert world.is_in_time(4, world.tell)
    world.requests = 0
    assert world.is_in_time(60, world.tell)
    assert world.requests == 0


def test_silence_is_late_within_ten_seconds(world: World) -> None:
    world.go_on(10, world.tell)
    assert world.is_in_time(4)
    assert world.go_on(6)
    assert "no progress" in world.watch.late[LINE].reason
    assert world.go_on(600)
    world.go_on(3, world.tell)
    assert world.is_in_time(4, world.tell)


def test_position_that_stands_still_is_late_only_while_the_end_moves(world: World) -> None:
    position = world.end
    assert world.is_in_time(30, lambda: world.tell(position))

    def write() -> None:
        world.end += 5
        world.tell(position)

    assert world.go_on(10, write)
    assert "behind" in world.watch.late[LINE].reason


def test_forwarder_that_is_always_a_little_behind_is_in_time(world: World) -> None:
    def write() -> None:
        world.end += 1_000
        world.tell(world.end - 700)

    assert world.is_in_time(60, write)


def test_connection_that_was_away_makes_nobody_late(world: World) -> None:
    world.go_on(10, world.tell)
    world.now += 2
    world.connected_at = world.now + 4
    assert world.is_in_time(8)
    assert world.go_on(4)


def test_line_that_is_late_stays_so_while_nats_is_away(world: World) -> None:
    world.go_on(10, world.tell)
    assert world.go_on(10)
    world.connected_at = None
    assert world.go_on(30)
    world.connected_at = world.now
    assert not world.go_on(6, world.tell)


def test_process_that_was_suspended_blames_nobody(world: World) -> None:
    world.go_on(10, world.tell)
    world.now += 100
    assert world.is_in_time(4)
    assert world.is_in_time(10, world.tell)


def test_group_of_another_forwarder_is_late_within_twelve_seconds(world: World) -> None:
    world.committed = {0: 10}

    def work() -> None:
        world.end += 3
        world.committed[0] = world.end

    assert world.is_in_time(60, work)
    world.requests = 0
    assert world.is_in_time(60, work)
    assert world.requests <= 30  # one in two seconds

    def write() -> None:
        world.end += 3

    assert world.go_on(12, write)
    assert "group has not passed" in world.watch.late[LINE].reason
    world.go_on(4, work)
    assert world.is_in_time(6, work)


def test_quiet_log_makes_no_group_late(world: World) -> None:
    world.committed = {0: 10}
    assert world.is_in_time(60)


def test_another_forwarder_may_take_over(world: World) -> None:
    world.go_on(10, world.tell)
    world.committed = {0: 10}
    assert world.go_on(10)

    def work() -> None:
        world.end += 3
        world.committed[0] = world.end

    world.go_on(6, work)
    assert world.is_in_time(30, work)


def test_forwarder_that_tells_its_progress_late_has_replaced_another(world: World) -> None:
    connected_at = world.now
    world.go_on(2)
    assert world.watch.taken_over_at(LINE.cluster, connected_at) is None
    assert world.watch.taken_over_at(LINE.cluster, connected_at, connected_at + 4) == connected_at + 4
    world.go_on(8, world.tell)
    assert world.watch.taken_over_at(LINE.cluster, connected_at + 1) is None
    assert world.watch.taken_over_at(LINE.cluster, connected_at - 4) == connected_at + 3
    assert world.watch.taken_over_at(LINE.cluster, None) is None


def test_offsets_of_a_former_group_blame_nobody_who_tells_his_progress(world: World) -> None:
    world.committed = {0: 3}
    assert world.is_in_time(60, world.tell)


def test_lines_may_be_told_while_the_watch_looks(world: World) -> None:
    """The threads of NATS tell them at any moment."""
    told = iter(range(1, 1_000))

    class Name(str):
        __slots__ = ()
        is_telling = False

        def __hash__(self) -> int:  # the moment: while the watch goes through its lines
            if world.is_looking and not Name.is_telling:
                Name.is_telling = True
                world.watch.note_progress(f"nats://{next(told)}", 0, Progress(1, 1, 0, "forwarder", "ofa_assets"))
                Name.is_telling = False
            return super().__hash__()

    for number in range(3):
        world.watch.note_progress(Name(LINE.cluster), number, Progress(1, 1, 0, "forwarder", "ofa_assets"))
    world.is_looking = True
    world.watch.look({LINE.cluster: 0.0}, LOOK_SECONDS, {})
    assert next(told) > 1
    assert not world.watch.late


def test_the_progress_of_another_factory_on_the_cluster_does_not_count() -> None:
    log: Any = SimpleNamespace(topic="ofa_assets")
    feed: Any = None
    assets = LateAssets({}, threading.RLock, feed, log)
    assets.note_progress(*LINE, Progress(3, 3, 0, "forwarder", "plant2_ofa_assets"))
    assert not assets._watch._telling
    assets.note_progress(*LINE, Progress(3, 3, 0, "forwarder", "ofa_assets"))
    assert [*assets._watch._telling] == [LINE]


def test_an_asset_is_not_late_by_what_was_found_before_there_were_none(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its repair would read the log from the time at which the forwarder stood still, hours ago."""
    partition = Partition("ofa_assets", LINE.partition)
    assets: dict[str, LiveAsset] = {}
    log: Any = SimpleNamespace(topic="ofa_assets", places_of=lambda _: [partition])
    feed: Any = SimpleNamespace(clusters=lambda: {LINE.cluster: world.connected_at}, cluster_of=lambda _: LINE.cluster)
    late = LateAssets(assets, threading.RLock, feed, log)

    def subscribe() -> LiveAsset:
        assets["MILL"] = LiveAsset("MILL", partition, {partition: 0})
        late.judge(assets["MILL"])
        return assets["MILL"]

    def go_on(seconds: int, position: int) -> None:
        for _ in range(seconds):
            world.now += 1
            late.note_progress(*LINE, Progress(position, world.end, 0, "forwarder", "ofa_assets"))
            late.look()

    first = subscribe()
    go_on(10, position=3)
    assert first.late
    assert "stands still" in late.trouble()
    assets.clear()
    world.now += 2
    late.look()
    world.now += 3_600
    assert not subscribe().late
    assert not late.trouble()
    late.look()
    assert not assets["MILL"].late
    go_on(10, position=3)
    assert assets["MILL"].late
    assert [text for text in caplog.messages if "stands still" in text] == caplog.messages


@pytest.mark.parametrize(("is_new", "seconds", "lacks"), [(False, 1, False), (False, 10, True), (True, 1, True)])
def test_forwarder_that_begins_after_the_connection_lacks_events(
    world: World, is_new: bool, seconds: int, lacks: bool
) -> None:
    """One that runs tells its progress within a second of the connection; a new group says that it is new."""
    connected_at = world.now
    world.now += seconds
    for _ in range(2):
        world.watch.note_progress(*LINE, Progress(world.end, world.end, 0, "forwarder", "ofa_assets", is_new))
        assert world.watch.taken_over_at(LINE.cluster, connected_at) == (connected_at + seconds if lacks else None)
        world.now += 1
    assert world.watch.taken_over_at(LINE.cluster, world.now) is None
