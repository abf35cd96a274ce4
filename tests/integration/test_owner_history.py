"""The checker of the promises about owners: it finds nothing in a good history, and each fault that is forged."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from history import Note, Stop
from owner_history import Life, OwnerHistory, OwnerWatch, seconds_until_known, violations_of_owners

# When the first owner is killed, and the second one starts, is frozen and goes on.
KILLED, KNOWN, STARTED, FROZEN, SILENT, THAWED, ENDED = 30.0, 33.0, 50.0, 80.0, 84.0, 95.0, 140.0


def reading(at: float) -> Note:
    """What a watcher reads of the mill."""
    is_available = 2 <= at < KNOWN or STARTED + 2 <= at < SILENT or at > THAWED
    owner = 1 if at < STARTED + 1 else 2
    value = "AVAILABLE" if is_available else "UNAVAILABLE"
    return {"reads": "MILL", "at": at, "value": value, "pid": owner, "registered": True}


def end(epoch: str, at: float, ended: str) -> Note:
    return {"heard": "MILL", "epoch": epoch, "at": at, "ended": ended}


def good_history() -> OwnerHistory:
    """A run that keeps every promise: an owner is killed; the next one is frozen, and goes on."""
    watches = [
        OwnerWatch(
            name,
            [
                {"watching": True, "at": 0.0},
                *(reading(tick / 2) for tick in range(2 * int(ENDED))),
                end("10", KNOWN, "process 1 on host m3 ended without a word, last seen 08:30:02"),
                end("20", SILENT, "process 2 on host m3 gives no sign of life and may be frozen"),
            ],
            [],
        )
        for name in ("one", "two")
    ]
    return OwnerHistory(
        bound=5.0,
        lives=[
            Life(1, ["MILL"], 0.0, Path("first"), "SIGKILL", runs=2.0, ending=KILLED, ended=KILLED),
            Life(2, ["MILL"], STARTED, Path("second"), runs=STARTED + 2, silences=[Stop(2, FROZEN, THAWED)]),
        ],
        watches=watches,
        outages=[],
        owners={("MILL", "10"): 1, ("MILL", "20"): 2, ("MILL", "21"): 2},
        ran=[{"ran": "a", "asset": "MILL", "pid": 1, "at": 20.0}, {"ran": "b", "asset": "MILL", "pid": 2, "at": 60.0}],
        ended=ENDED,
        problems=[],
    )


def change(history: OwnerHistory, begin: float, end: float, **values: object) -> None:
    """Change what all watchers read during a time."""
    for watch in history.watches:
        for note in watch.notes:
            if "reads" in note and begin <= note["at"] < end:
                note.update(values)


def move_end(history: OwnerHistory, epoch: str, at: float) -> None:
    """Let all watchers hear an end at another time."""
    for watch in history.watches:
        for note in watch.notes:
            if note.get("epoch") == epoch:
                note["at"] = at


def forge_start_that_failed(history: OwnerHistory) -> None:
    history.problems.append("MILL: a start ended with 1")


def forge_end_that_nobody_wrote(history: OwnerHistory) -> None:
    change(history, KNOWN, STARTED, value="AVAILABLE")


def forge_freeze_that_nobody_noticed(history: OwnerHistory) -> None:
    change(history, FROZEN, THAWED, value="AVAILABLE")


def forge_end_of_a_living_owner(history: OwnerHistory) -> None:
    move_end(history, "10", 20.0)


def forge_end_of_an_owner_that_was_silent_for_a_moment(history: OwnerHistory) -> None:
    move_end(history, "20", FROZEN + 1)


def forge_end_of_an_unknown_owner(history: OwnerHistory) -> None:
    for watch in history.watches:
        watch.notes.append(end("99", 60.0, "process 9 on host m3 ended without a word"))


def forge_owner_that_is_unavailable(history: OwnerHistory) -> None:
    change(history, 20, 21, value="UNAVAILABLE")


def forge_owner_that_never_came_back(history: OwnerHistory) -> None:
    change(history, THAWED, ENDED, value="UNAVAILABLE")


def forge_other_owner(history: OwnerHistory) -> None:
    change(history, 70, 71, pid=1)


def forge_owner_that_is_not_registered(history: OwnerHistory) -> None:
    change(history, 70, 71, registered=False)


def forge_end_heard_twice(history: OwnerHistory) -> None:
    history.watches[0].notes.append(end("10", KNOWN + 1, "process 1 on host m3 ended without a word"))


def forge_end_that_one_watcher_missed(history: OwnerHistory) -> None:
    notes = history.watches[0].notes
    notes[:] = [note for note in notes if note.get("epoch") != "20"]


def forge_second_run(history: OwnerHistory) -> None:
    history.ran.append({"ran": "b", "asset": "MILL", "pid": 2, "at": 61.0})


def forge_run_by_a_former_owner(history: OwnerHistory) -> None:
    history.ran[1]["pid"] = 1


FORGED = [
    (forge_start_that_failed, "ended wrongly"),
    (forge_end_that_nobody_wrote, "left available"),
    (forge_freeze_that_nobody_noticed, "left available"),
    (forge_end_of_a_living_owner, "called dead"),
    (forge_end_of_an_owner_that_was_silent_for_a_moment, "called dead"),
    (forge_end_of_an_unknown_owner, "called dead"),
    (forge_owner_that_is_unavailable, "not as its owner lives"),
    (forge_owner_that_never_came_back, "not as its owner lives"),
    (forge_other_owner, "not as its owner lives"),
    (forge_owner_that_is_not_registered, "not as its owner lives"),
    (forge_end_heard_twice, "not heard once"),
    (forge_end_that_one_watcher_missed, "not heard once"),
    (forge_second_run, "wrong run"),
    (forge_run_by_a_former_owner, "wrong run"),
]


def keep_changes(history: OwnerHistory) -> None:
    """Leave the readings out that tell nothing new, as the watchers of a run do."""
    for watch in history.watches:
        last: Note = {}
        for note in [note for note in watch.notes if "reads" in note]:
            told = {**note, "at": None}
            if told == last:
                watch.notes.remove(note)
            last = told


@pytest.mark.parametrize("keep", [keep_changes, lambda _: None], ids=["changes", "all readings"])
def test_the_checker_finds_nothing_in_a_good_history(keep: Callable[[OwnerHistory], None]) -> None:
    history = good_history()
    keep(history)
    assert violations_of_owners(history) == []


@pytest.mark.parametrize("keep", [keep_changes, lambda _: None], ids=["changes", "all readings"])
@pytest.mark.parametrize(("forge", "kind"), FORGED)
def test_the_checker_finds_what_is_forged(
    forge: Callable[[OwnerHistory], None], kind: str, keep: Callable[[OwnerHistory], None]
) -> None:
    history = good_history()
    forge(history)
    keep(history)
    assert {violation.kind for violation in violations_of_owners(history)} == {kind}


def test_every_kind_of_fault_is_forged() -> None:
    source = Path(__file__).with_name("recorded").joinpath("owner_history.py").read_text(encoding="utf-8")
    assert set(re.findall(r'Violation\("([^"]+)"', source)) == {kind for _, kind in FORGED}


def test_an_end_may_be_known_late_if_the_broker_was_away() -> None:
    history = good_history()
    change(history, KILLED, 44, value="AVAILABLE")
    move_end(history, "10", 44.0)
    assert violations_of_owners(history)
    history.outages.append(Stop(0, KILLED - 1, 40.0))
    assert violations_of_owners(history) == []


def test_what_a_frozen_watcher_reads_does_not_count() -> None:
    history = good_history()
    change(history, KILLED, STARTED, value="AVAILABLE")
    for watch in history.watches:
        watch.stops.append(Stop(3, KILLED, STARTED))
    assert violations_of_owners(history) == []


def test_a_watcher_that_began_later_has_not_heard_what_was_before() -> None:
    history = good_history()
    watch = history.watches[0]
    watch.notes = [{"watching": True, "at": STARTED}, *(note for note in watch.notes if note["at"] > STARTED)]
    assert violations_of_owners(history) == []


def test_an_end_need_not_be_known_when_the_next_owner_has_started() -> None:
    history = good_history()
    history.lives[1].started = KILLED + 2
    history.lives[1].runs = KILLED + 4
    change(history, KILLED, SILENT, value="AVAILABLE", pid=2)
    for watch in history.watches:
        watch.notes = [note for note in watch.notes if note.get("epoch") != "10"]
    assert violations_of_owners(history) == []


def test_an_end_that_the_process_tells_itself_is_right() -> None:
    history = good_history()
    for watch in history.watches:
        watch.notes.append(end("21", 120.0, "its main loop raised ValueError"))
    assert violations_of_owners(history) == []


def test_the_seconds_until_an_end_is_known() -> None:
    history = good_history()
    assert seconds_until_known(history) == {"SIGKILL": [KNOWN - KILLED], "frozen or cut off": [SILENT - FROZEN]}
    history.outages.append(Stop(0, KILLED - 1, KILLED + 2))
    assert seconds_until_known(history)["SIGKILL"] == [KNOWN - KILLED - 2]
