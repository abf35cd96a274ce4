"""The checker of recorded histories: it finds nothing in a good one, and each fault that is forged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from history import History, Note, Row, Stop, figures, violations
from watches import Watch


def command(position: int, id: str, token: str) -> Row:
    value = json.dumps({"header": {"correlation_id": id}, "arguments": {"token": token}})
    return Row(position, "CELL", "work_CMD", value, "OpenFactory", "Method.Command")


def reply(position: int, id: str, status: str, result: Any = None, error: str | None = None) -> Row:
    value = json.dumps({"correlation_id": id, "status": status, "result": result, "error": error})
    return Row(position, "CELL", "work_REPLY", value, "OpenFactory", "Method.Reply")


def written(position: int, value: str, epoch: int = 0) -> Row:
    return Row(position, "BOARD", "last", value, "Events", "Last", epoch=epoch)


def write(value: str, at: float, outcome: str = "acknowledged", **more: Any) -> list[Note]:
    where = {"asset": "BOARD", "attribute": "last"}
    return [{"wrote": value, "at": at, **where}, {outcome: value, "at": at + 0.1, **where, **more}]


def call(token: str, at: float, outcome: str, **more: Any) -> list[Note]:
    called = {"called": token, "at": at, "ended": at + 1, "timeout": 2, "pid": 7, "outcome": outcome, **more}
    return [{"calls": token, "at": at}, called]


def heard(stream: str, value: str, at: float) -> Note:
    return {"stream": stream, "heard": ["BOARD", "last", value], "at": at}


def good_history() -> History:
    """A short history that keeps every promise."""
    log = [
        command(1, "i", "a"),
        written(2, "one"),
        reply(3, "i", "succeeded", "done a"),
        command(4, "i", "a"),
        reply(5, "i", "succeeded", "done a"),
        command(6, "j", "b"),
        reply(7, "j", "rejected", None, "no"),
        written(8, "two"),
        written(9, "late"),
    ]
    record = [
        *call("a", 1, "result", result="done a"),
        *write("one", 2, position=2),
        *call("b", 3, "CommandRejected"),
        *write("never", 4, "failed"),
        *write("two", 4),
        *write("late", 5, "failed"),
    ]
    notes = [
        {"watching": True, "assets": ["BOARD"], "position": 1, "at": 0.5},
        *(heard(stream, value, 6) for value in ("one", "two", "late") for stream in ("engine", "callback")),
        {"state": {"BOARD": {"last": "late"}}, "at": 7},
    ]
    return History(log, [[{"ran": "a", "at": 1}], record], [Watch(notes)])


def remade_history() -> History:
    """A good one whose log was made anew at 10: the old one is gone but for its beginning, and watchers were told."""
    history = good_history()
    history.log[7:] = [written(1, "new", epoch=1), written(2, "newer", epoch=1)]
    history.records[1] += [*write("new", 11, position=1), *write("newer", 12)]
    history.made_anew.append(10)
    notes = history.watches[0].notes
    notes[-1:] = [
        {"gap": "BOARD", "position": 0, "at": 10.5},
        *(heard(stream, value, 13) for value in ("new", "newer") for stream in ("engine", "callback")),
        {"state": {"BOARD": {"last": "newer"}}, "at": 14},
    ]
    return history


def watch_notes(history: History, stream: str) -> list[Note]:
    return [note for note in history.watches[0].notes if note.get("stream") == stream]


def forge_lost_write(history: History) -> None:
    history.log[7] = history.log[7]._replace(attribute="other")


def forge_doubled_write(history: History) -> None:
    history.log.append(written(10, "two"))


def forge_doubled_write_that_failed(history: History) -> None:
    history.log.append(written(10, "late"))


def forge_write_by_nobody(history: History) -> None:
    history.log.append(written(10, "three"))


def forge_wrong_position(history: History) -> None:
    history.records[1][3]["position"] = 3


def forge_order(history: History) -> None:
    history.log[1], history.log[7] = history.log[1]._replace(value="two"), history.log[7]._replace(value="one")


def forge_hole(history: History) -> None:
    del history.log[3]


def forge_second_run(history: History) -> None:
    history.records[0].append({"ran": "a", "at": 2})


def forge_run_of_rejected(history: History) -> None:
    history.records[0].append({"ran": "b", "at": 2})


def forge_success_without_run(history: History) -> None:
    history.records[0].clear()


def forge_silence(history: History) -> None:
    history.log[6] = history.log[6]._replace(tag="Note")


def forge_second_outcome(history: History) -> None:
    history.log[4] = history.log[4]._replace(value=history.log[4].value.replace("done a", "done b"))


def forge_told_otherwise(history: History) -> None:
    history.records[1][1]["result"] = "done b"


def forge_late_answer(history: History) -> None:
    history.records[1][1]["ended"] = 6


def forge_late_run(history: History) -> None:
    history.records[0][0]["at"] = 9


def forge_missed_event(history: History) -> None:
    history.watches[0].notes.remove(watch_notes(history, "callback")[0])


def forge_missed_end(history: History) -> None:
    history.watches[0].notes.remove(watch_notes(history, "engine")[-1])


def forge_order_heard(history: History) -> None:
    one, two, _ = watch_notes(history, "callback")
    one["heard"], two["heard"] = two["heard"], one["heard"]


def forge_order_heard_by_a_killed_watcher(history: History) -> None:
    forge_order_heard(history)
    history.watches[0].lived = False


def forge_event_of_nowhere(history: History) -> None:
    history.watches[0].notes.insert(1, heard("engine", "zero", 1))


def forge_old_state(history: History) -> None:
    history.watches[0].notes[-1]["state"]["BOARD"]["last"] = "two"


def forge_no_end(history: History) -> None:
    del history.watches[0].notes[-1]


def forge_lost_after_it(history: History) -> None:
    history.log.pop()


def forge_no_gap(history: History) -> None:
    history.watches[0].notes = [note for note in history.watches[0].notes if "gap" not in note]
    history.watches[0].notes.remove(watch_notes(history, "engine")[3])


def forge_masked_event(history: History) -> None:
    history.watches[0].notes.remove(watch_notes(history, "engine")[3])


FORGED = [forge for name, forge in list(globals().items()) if name.startswith("forge_")]
FORGED_AFTER_A_NEW_LOG = [forge_lost_after_it, forge_no_gap, forge_masked_event]


@pytest.mark.parametrize("history", [good_history, remade_history])
def test_the_checker_finds_nothing_in_a_good_history(history: Callable[[], History]) -> None:
    assert violations(history()) == []


@pytest.mark.parametrize("forge", [forge for forge in FORGED if forge not in FORGED_AFTER_A_NEW_LOG])
def test_the_checker_finds_what_is_forged(forge: Callable[[History], None]) -> None:
    history = good_history()
    forge(history)
    assert violations(history)


@pytest.mark.parametrize("forge", FORGED_AFTER_A_NEW_LOG)
def test_the_checker_finds_what_is_forged_in_a_log_that_was_made_anew(forge: Callable[[History], None]) -> None:
    history = remade_history()
    forge(history)
    assert violations(history)


def test_time_in_which_a_caller_could_not_run_is_not_its_wait() -> None:
    history = good_history()
    forge_late_answer(history)
    history.stops.append(Stop(7, 1.5, 3.5))
    assert violations(history) == []


def test_a_watcher_that_was_told_of_a_gap_may_have_missed_what_was_before() -> None:
    history = good_history()
    notes = history.watches[0].notes
    notes[1:3] = [{"gap": "BOARD", "position": 2, "at": 5}]
    assert violations(history) == []


def test_the_figures_count_what_is_wrong() -> None:
    history = good_history()
    forge_lost_write(history)
    forge_second_run(history)
    counts = figures(history, violations(history))
    assert (counts["acknowledged"], counts["lost"], counts["commands sent"], counts["run twice"]) == (2, 1, 2, 1)
