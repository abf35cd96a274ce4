"""Which of the events that owners write count: the order of the log decides, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.assets.state import AssetState
from openfactory.engines.kafka_engine.fold import Fold
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.ownership import (
    AVAILABILITY_ID,
    OWNER_ID,
    Owner,
    counts,
    end_event,
    end_events,
    is_by_owner,
    owned,
    owner_in,
)
from openfactory.events.registration import deregistration_event

TIME = "2026-01-01T00:00:00.000Z"


def claim(instance: str, epoch: int, supersedes: int = 0) -> Owner:
    return Owner(instance, epoch, supersedes, "m3", 4711, TIME)


def available(owner: Owner) -> AssetEvent:
    return owned(new_event("MILL", AVAILABILITY_ID, "AVAILABLE", "Events", "Availability"), owner.epoch)


def ended(owner: Owner, reason: str = "stopped") -> AssetEvent:
    return end_event("MILL", owner, None, reason)


class Log:
    """The last events of an asset after a log, of which those that do not count are left out."""

    def __init__(self, *events: AssetEvent) -> None:
        self.last: dict[str, AssetEvent] = {}
        self.counted = [self.add(event) for event in events]

    def add(self, event: AssetEvent) -> bool:
        if not counts(event, owner_in(self.last)):
            return False
        self.last[event.id] = event
        return True

    @property
    def owner(self) -> Owner | None:
        return owner_in(self.last)


A, B = claim("a", 10), claim("b", 12)


def test_an_asset_without_a_claim_has_no_owner() -> None:
    assert Log(new_event("MILL", "avail", "AVAILABLE", "Events", "Availability")).owner is None


def test_a_claim_makes_an_owner() -> None:
    assert Log(A.event("MILL")).owner == A


def test_of_two_claims_that_saw_the_same_owner_the_first_counts() -> None:
    log = Log(A.event("MILL"), B.event("MILL"))
    assert log.counted == [True, False]
    assert log.owner == A


def test_a_claim_that_names_the_present_one_takes_its_place() -> None:
    newer = claim("b", 12, supersedes=10)
    assert Log(A.event("MILL"), newer.event("MILL")).owner == newer


def test_a_claim_with_a_lower_epoch_never_counts() -> None:
    assert Log(A.event("MILL"), claim("b", 9, supersedes=10).event("MILL")).owner == A


def test_a_claim_counts_after_the_end_of_an_owner_whatever_it_names() -> None:
    """The log may have forgotten the claims before, and then a start does not know them."""
    log = Log(A.event("MILL"), ended(A), B.event("MILL"))
    assert log.counted == [True, True, True]
    assert log.owner == B
    assert not log.add(claim("c", 13).event("MILL"))  # a third start at the same time


def test_a_claim_that_is_written_again_counts() -> None:
    assert Log(A.event("MILL"), available(A), A.event("MILL")).counted == [True, True, True]


def test_what_an_owner_writes_after_another_claim_does_not_count() -> None:
    newer = claim("b", 12, supersedes=10)
    reply = owned(new_event("MILL", "start_REPLY", "{}", "OpenFactory", "Method.Reply"), A.epoch)
    late = [available(A), ended(A), reply, owned(deregistration_event("MILL"), A.epoch)]
    assert Log(A.event("MILL"), newer.event("MILL"), *late).counted == [True, True, False, False, False, False]


def test_the_end_of_an_owner_counts_once() -> None:
    log = Log(A.event("MILL"), available(A), ended(A, "first"), ended(A, "second"))
    assert log.counted == [True, True, True, False]
    assert log.owner is not None
    assert log.owner.ended == "first"


def test_an_owner_whose_end_was_written_must_claim_again_before_it_is_available() -> None:
    again = claim("a", 12, supersedes=10)
    log = Log(A.event("MILL"), ended(A), available(A), again.event("MILL"), available(again))
    assert log.counted == [True, True, False, True, True]
    assert log.owner == again


def test_an_owner_whose_end_was_written_may_still_reply_and_deregister() -> None:
    reply = owned(new_event("MILL", "start_REPLY", "{}", "OpenFactory", "Method.Reply"), A.epoch)
    log = Log(A.event("MILL"), ended(A), reply, owned(deregistration_event("MILL"), A.epoch))
    assert log.counted == [True, True, True, True]


def test_the_end_tells_the_reason_and_keeps_the_type_and_tag_of_the_availability() -> None:
    event = end_event("MILL", A, AssetEvent("MILL", "avail", "x", "Samples", "T", TIME), "gone")
    assert (event.value, event.type, event.tag) == (UNAVAILABLE, "Samples", "T")
    assert event.attributes == {"owner_epoch": "10", "owner_ended": "gone"}


def test_events_of_others_always_count() -> None:
    for event in (new_event("MILL", "avail", "x", "Events", "T"), new_event("MILL", "speed", 1, "Samples", "T")):
        assert counts(event, A)
        assert not is_by_owner(event)


@pytest.mark.parametrize("value", ["", "no JSON", "[]", '{"instance": 1}', {"epoch": "x"}, 7, None, "[" * 1000])
@pytest.mark.parametrize("epoch", ["x", "", "1e9", "9" * 5000, "٣"])
def test_events_of_other_programs_under_these_names_raise_nothing(value: Any, epoch: str) -> None:
    event = AssetEvent("MILL", OWNER_ID, value, "OpenFactory", "Asset.Owner", TIME, 1, {"owner_epoch": epoch})
    assert counts(event, A) in (True, False)
    assert owner_in({OWNER_ID: event, AVAILABILITY_ID: event}) is None


@pytest.mark.parametrize("instance", ["", "../factory.db", "/dev/zero", "a.new", "a/b", "x" * 65])
def test_an_instance_is_a_name_and_no_path(instance: str) -> None:
    value = msgspec.json.encode(msgspec.to_builtins(A) | {"instance": instance}).decode()
    assert owner_in({OWNER_ID: msgspec.structs.replace(A.event("MILL"), value=value)}) is None


@pytest.mark.parametrize("pid", [0, -1, 2**31])
def test_a_process_has_an_id_that_the_system_knows(pid: int) -> None:
    value = msgspec.json.encode(msgspec.to_builtins(A) | {"pid": pid}).decode()
    assert owner_in({OWNER_ID: msgspec.structs.replace(A.event("MILL"), value=value)}) is None


def test_an_attribute_of_this_id_is_no_claim() -> None:
    assert owner_in({OWNER_ID: msgspec.structs.replace(A.event("MILL"), tag="App.Owner")}) is None


def test_the_claim_alone_tells_how_an_owner_has_ended() -> None:
    """The tables of ksqlDB keep no properties of an event."""
    end, claim = end_events("MILL", A, None, "stopped")
    log = Log(A.event("MILL"), end, claim)
    assert log.counted == [True, True, True]
    assert log.owner == owner_in({OWNER_ID: claim}) == msgspec.structs.replace(A, ended="stopped")
    assert not log.add(A.event("MILL"))  # written again too late


instances = st.sampled_from(["a", "b", "c"])


@st.composite
def histories(draw: st.DrawFn) -> list[AssetEvent]:
    """What three processes write that claim an asset, end, are called ended and go on, in any order."""
    log, epoch = Log(), 0
    claims: dict[str, Owner] = {}
    written = []
    for _ in range(draw(st.integers(0, 20))):
        instance = draw(instances)
        step = draw(st.sampled_from(["claim", "claim of the past", "available", "ended"]))
        if step.startswith("claim"):
            epoch += 1
            past = [0, *(owner.epoch for owner in claims.values())]
            present = 0 if log.owner is None else log.owner.epoch
            claims[instance] = claim(instance, epoch, present if step == "claim" else draw(st.sampled_from(past)))
            event = claims[instance].event("MILL")
        elif instance not in claims:
            continue
        else:
            event = available(claims[instance]) if step == "available" else ended(claims[instance], instance)
        log.add(event)
        written.append(event)
    return written


@given(histories())
def test_an_asset_has_one_owner_whose_epoch_rises_and_only_its_events_count(written: list[AssetEvent]) -> None:
    log, epochs = Log(), [0]
    for event in written:
        before = log.owner
        if not log.add(event):
            assert log.owner == before
            continue
        assert log.owner is not None
        epochs.append(log.owner.epoch)
        assert event.attributes is not None
        assert event.attributes["owner_epoch"] == str(log.owner.epoch)
    assert epochs == sorted(epochs)


@given(histories(), st.integers(0, 20))
def test_a_state_and_a_fold_that_read_parts_twice_find_the_same_owner(written: list[AssetEvent], again: int) -> None:
    log, fold, state = Log(), Fold(), AssetState()
    placed = [event.with_position(position) for position, event in enumerate(written, 1)]
    for event in placed:
        counted = log.add(event)
        assert fold.counts(event) is counted
        assert state.counts(event) is counted
        if counted:
            fold.apply(event)
            state.apply(event)
            assert state.counts(event)  # its echo
    assert state.owner == log.owner == owner_in(fold.assets["MILL"])
    for event in placed[again:]:
        if log.last.get(event.id) == event:  # as a snapshot has it
            state.apply(event)
    assert state.owner == log.owner


def test_an_owner_is_named_by_its_process_and_host() -> None:
    assert str(A) == "process 4711 on host m3"


def test_further_facts_of_later_versions_are_ignored() -> None:
    value = msgspec.json.encode(msgspec.to_builtins(A) | {"later": 1}).decode()
    event = msgspec.structs.replace(A.event("MILL"), value=value)
    assert owner_in({OWNER_ID: event}) == A
