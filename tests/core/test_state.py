"""AssetState: the order of the log decides, an own write shows at once, and a failed one is taken back."""

from __future__ import annotations

import gc
import threading

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import DataObject, booleans, data, integers, sampled_from

from openfactory.assets import AssetEvent
from openfactory.assets.state import AssetState
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError
from openfactory.testing import eventually

IDS = sampled_from(["a", "b"])


def event(id: str, value: object, position: int | None = None) -> AssetEvent:
    return AssetEvent("MILL", id, value, "Events", "Test", "2026-11-21T07:30:00.000Z", position)


def new_receipt(number: int) -> Receipt:
    return Receipt(number, lambda receipt, timeout: receipt.settled)


def failed(receipt: Receipt) -> None:
    receipt.error = DeliveryError("on purpose")


class Model(RuleBasedStateMachine):
    """A log with several writers, one of which is this process; what it hears comes late, doubled and out of order.

    The value of an attribute is the newest own write of which nothing is known yet, else, of all that is known to stand
    in the log, what stands last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state = AssetState()
        self.log: list[AssetEvent] = []
        self.known: dict[str, set[int]] = {"a": set(), "b": set()}  # positions that this process has heard of
        self.own: list[tuple[AssetEvent, Receipt]] = []
        self.pending: list[tuple[AssetEvent, Receipt]] = []  # in the order in which they will be written

    def append(self, event: AssetEvent) -> AssetEvent:
        placed = event.with_position(len(self.log) + 1)
        self.log.append(placed)
        return placed

    def publish(self, id: str) -> tuple[AssetEvent, Receipt]:
        number = len(self.own) + 1
        entry = (event(id, f"own {number}"), new_receipt(number))
        self.own.append(entry)
        self.pending.append(entry)
        return entry

    def acknowledge(self) -> None:
        written, receipt = self.pending.pop(0)
        position = self.append(written).position
        receipt.position = position
        assert position is not None
        self.known[written.id].add(position)

    @rule(id=IDS)
    def write(self, id: str) -> None:
        self.state.write(*self.publish(id))

    @rule(id=IDS)
    def write_from_two_threads(self, id: str) -> None:
        first, second = self.publish(id), self.publish(id)
        self.state.write(*second)
        self.state.write(*first)

    @rule(id=IDS, is_heard=booleans())
    def write_and_be_acknowledged_before_it_is_shown(self, id: str, is_heard: bool) -> None:
        entry = self.publish(id)
        while self.pending:
            self.acknowledge()
        if is_heard:
            self.hear(self.append(event(id, "of somebody else")))
        self.state.write(*entry)

    @precondition(lambda self: self.pending)
    @rule()
    def one_is_acknowledged(self) -> None:
        self.acknowledge()

    @precondition(lambda self: self.pending)
    @rule()
    def one_fails(self) -> None:
        _, receipt = self.pending.pop(0)
        failed(receipt)

    @rule(id=IDS, value=integers(0, 3))
    def somebody_else_writes(self, id: str, value: int) -> None:
        self.append(event(id, value))

    @precondition(lambda self: self.log)
    @rule(data=data())
    def an_event_arrives(self, data: DataObject) -> None:
        self.hear(data.draw(sampled_from(self.log)))

    @rule(data=data())
    def a_snapshot_arrives(self, data: DataObject) -> None:
        position = data.draw(integers(0, len(self.log)))
        rows = {event.id: event for event in self.log[:position]}
        for row in rows.values():
            assert row.position is not None
            self.known[row.id].add(row.position)
        self.state.load(rows.values())

    def hear(self, event: AssetEvent) -> None:
        assert event.position is not None
        self.known[event.id].add(event.position)
        self.state.apply(event)

    @invariant()
    def the_state_says_what_holds(self) -> None:
        expected: dict[str, object] = {}
        for id in ("a", "b"):
            waiting = [event.value for event, _ in self.pending if event.id == id]
            if waiting:
                expected[id] = waiting[-1]
            elif self.known[id]:
                expected[id] = self.log[max(self.known[id]) - 1].value
        assert {id for id in ("a", "b") if id in self.state} == expected.keys()
        assert {event.id: event.value for event in self.state.events()} == expected
        held = {id: self.state.get(id) for id in ("a", "b")}
        assert {id: event.value for id, event in held.items() if event} == expected


Model.TestCase.settings = settings(stateful_step_count=25)
TestTheState = Model.TestCase


def test_an_own_write_yields_to_what_stands_after_it_and_to_nothing_else() -> None:
    state, receipt = AssetState(), new_receipt(1)
    state.apply(event("a", "old", 1))
    state.write(event("a", "own"), receipt)
    state.apply(event("a", "older, and late", 2))
    assert value_of(state) == "own"
    receipt.position = 3
    assert value_of(state) == "own"
    state.apply(event("a", "own", 3))  # its echo
    state.apply(event("a", "older, and late", 2))
    assert value_of(state) == "own"
    state.apply(event("a", "newer", 4))
    assert value_of(state) == "newer"


def test_a_failed_write_is_taken_back() -> None:
    state, receipt = AssetState(), new_receipt(1)
    state.apply(event("a", "old", 1))
    state.write(event("a", "own"), receipt)
    state.apply(event("a", "meanwhile", 2))
    failed(receipt)
    assert value_of(state) == "meanwhile"


def test_a_failed_write_gives_way_to_the_own_write_before_it() -> None:
    state, first, second = AssetState(), new_receipt(1), new_receipt(2)
    state.apply(event("a", "old", 1))
    state.write(event("a", "first"), first)
    state.write(event("a", "second"), second)
    first.position = 2
    failed(second)
    assert value_of(state) == "first"


def test_of_two_threads_that_write_at_once_the_last_in_the_log_holds() -> None:
    """The numbers of their receipts may be in another order than their events."""
    state, first, second = AssetState(), new_receipt(1), new_receipt(2)
    state.write(event("a", "first"), first)
    state.write(event("a", "second"), second)
    first.position, second.position = 3, 2
    assert value_of(state) == "first"


def test_writes_that_are_acknowledged_are_dropped_by_the_next_ones() -> None:
    state = AssetState()
    for number in range(1, 1_001):
        receipt = new_receipt(number)
        state.write(event("a", number), receipt)
        receipt.position = number
    assert len(state._pending["a"]) < 100
    assert value_of(state) == 1_000


def test_a_state_knows_the_echoes_of_its_writes_and_drops_their_receipts() -> None:
    state, other, receipts = AssetState(), AssetState(), [new_receipt(number) for number in (1, 2)]
    for receipt in receipts:
        state.write(event("a", receipt.number), receipt)
        receipt.position = receipt.number
    assert [state.shows(receipt) for receipt in receipts] == [True, True]
    assert not other.shows(receipts[0])
    assert not state._pending
    assert value_of(state) == 2


def test_a_state_that_is_not_used_any_more_is_freed() -> None:
    """Receipts are not seen by the garbage collector, so they must not keep the state."""

    def states() -> int:
        gc.collect()
        return sum(isinstance(one, AssetState) for one in gc.get_objects())

    before = states()
    AssetState().write(event("a", 1), new_receipt(1))
    assert states() == before


def test_what_only_a_failed_write_has_said_is_unknown() -> None:
    state, receipt = AssetState(), new_receipt(1)
    state.write(event("a", "own"), receipt)
    assert "a" in state
    failed(receipt)
    assert "a" not in state
    assert state.get("a") is None
    assert state.events() == []


def test_without_positions_the_last_to_arrive_holds() -> None:
    state = AssetState()
    for value in ("first", "second"):
        state.apply(event("a", value))
    assert value_of(state) == "second"


def test_attributes_are_in_the_order_in_which_they_became_known() -> None:
    state = AssetState()
    state.apply(event("b", 1, 5))
    state.write(event("c", 1), new_receipt(1))
    state.load([event("a", 1, 1), event("b", 0, 2)])
    assert [event.id for event in state.events()] == ["b", "a", "c"]


def value_of(state: AssetState) -> object:
    held = state.get("a")
    return held and held.value


class Waiting:
    """A thread that waits for a value of `a`."""

    def __init__(self, state: AssetState, value: object, timeout: float = 6) -> None:
        self.asked = 0
        self.result: bool | None = None
        self._thread = threading.Thread(target=self._wait, args=(state, value, timeout))
        self._thread.start()
        eventually(lambda: self.asked)

    def _wait(self, state: AssetState, value: object, timeout: float) -> None:
        def is_so() -> bool:
            self.asked += 1
            return value_of(state) == value

        self.result = state.wait_for(is_so, timeout)

    def end(self) -> bool | None:
        """What it gives back; None when it still waits, well after it should have ended."""
        self._thread.join(3)
        result = self.result
        self._thread.join()
        return result


def test_waiting_ends_at_once_when_it_is_so() -> None:
    assert AssetState().wait_for(lambda: True, 0)


def test_waiting_ends_with_an_event() -> None:
    state = AssetState()
    waiting = [Waiting(state, "now") for _ in range(5)]
    state.apply(event("a", "not yet", 1))
    state.apply(event("a", "now", 2))
    assert [one.end() for one in waiting] == [True] * 5


def test_waiting_ends_with_an_own_write() -> None:
    state = AssetState()
    waiting = Waiting(state, "now")
    state.write(event("a", "now"), new_receipt(1))
    assert waiting.end()


def test_waiting_ends_when_a_write_is_taken_back() -> None:
    state, receipt = AssetState(), new_receipt(1)
    state.apply(event("a", "old", 1))
    state.write(event("a", "own"), receipt)
    waiting = Waiting(state, "old")
    failed(receipt)
    assert waiting.end()


def test_waiting_ends_when_an_own_write_turns_out_to_stand_before_another() -> None:
    state, receipt = AssetState(), new_receipt(1)
    state.write(event("a", "own"), receipt)
    waiting = Waiting(state, "newer")
    state.apply(event("a", "newer", 2))
    eventually(lambda: waiting.asked >= 2)
    receipt.position = 1
    assert waiting.end()


def test_waiting_gives_up_in_time() -> None:
    waiting = Waiting(AssetState(), "never", timeout=0.05)
    assert waiting.end() is False


def test_what_the_condition_raises_comes_out() -> None:
    def fail() -> bool:
        raise ValueError("on purpose")

    state = AssetState()
    with pytest.raises(ValueError, match="on purpose"):
        state.wait_for(fail, 1)
    assert not state.wait_for(lambda: False, 0)


def test_the_condition_may_use_the_state() -> None:
    state = AssetState()
    state.apply(event("a", 1, 1))
    assert state.wait_for(lambda: "a" in state and state.events() != [] and value_of(state) == 1, 1)
