"""The record of a run of several processes, and the promises that it must keep. No I/O, and no engine."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from watches import Watch, misheard, wrong_states

__all__ = ["History", "Note", "Row", "Stop", "Violation", "figures", "violations"]

#: A line that a process noted, in its own file: what it did, or what it was told.
Note = dict[str, Any]

# A caller may need this much longer than its timeout, in time in which it runs.
_LATE_SECONDS = 2.0

# A process that has seen the topic made anew counts the positions of each new log from a higher base.
_LOG_STEP = 1 << 42

_STATUS_TOLD = {
    "CommandCancelled": "cancelled",
    "CommandExpired": "expired",
    "CommandFailed": "failed",
    "CommandRejected": "rejected",
    "CommandUnknown": "unknown",
    "result": "succeeded",
}


class Row(NamedTuple):
    """One event of the log, as a foreign program reads it.

    Attributes:
        epoch: how often the log had been made anew before.
    """

    position: int
    asset: str
    attribute: str
    value: Any
    type: str
    tag: str
    partition: int = 0
    epoch: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among the events of its asset, which share a partition."""
        return self.epoch, self.position

    @property
    def is_heard(self) -> bool:
        """Whether it is an event for watchers, and not a registration that ends."""
        return (self.attribute, self.value) != ("AssetType", "delete")

    @property
    def is_command_or_reply(self) -> bool:
        return self.tag in ("Method.Command", "Method.Reply", "Method.Cancel")

    @property
    def is_attribute(self) -> bool:
        is_known = self.type != "Method" and self.tag not in ("Method.Contract", "Asset.Owner")
        return is_known and not self.is_command_or_reply


class Stop(NamedTuple):
    """A time in which a process could not run, on the monotonic clock of the machine."""

    pid: int
    begin: float
    end: float


class Violation(NamedTuple):
    """A promise that a history breaks."""

    kind: str
    text: str


@dataclass
class History:
    """What is in the log, and what each process says that it did and saw.

    Attributes:
        log: each asset's events in their order; of a log that was made anew, as much as was read before.
        records: notes of the writers, callers and apps, by file.
        made_anew: when the log had been made anew. What was written before may be gone.
        problems: what the run itself noticed, such as a process that did not end.
    """

    log: list[Row]
    records: list[list[Note]] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    made_anew: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def notes(self, key: str) -> Iterator[Note]:
        """All notes of a kind."""
        return (note for record in self.records for note in record if key in note)

    def may_be_gone(self, begin: float) -> bool:
        """Whether something written at a time may have gone with an earlier log."""
        return any(begin < made for made in self.made_anew)


def violations(history: History) -> list[Violation]:
    """What in a history breaks a promise; nothing, in a good one."""
    return [
        *(Violation("ended wrongly", text) for text in history.problems),
        *(Violation(*found) for found in wrong_writes(history)),
        *(Violation(*found) for found in holes(history)),
        *(Violation(*found) for found in wrong_commands(history)),
        *(Violation("told late", text) for text in late_calls(history)),
        *(Violation("run late", text) for text in late_runs(history)),
        *(Violation("misheard", text) for text in misheard(history.log, history.watches, history.made_anew)),
        *(Violation("wrong state", text) for text in wrong_states(history.log, history.watches)),
    ]


def wrong_writes(history: History) -> Iterator[tuple[str, str]]:
    """Every acknowledged write is in the log, once, in its writer's order; a failed one at most once; no others are."""
    places: dict[tuple[str, str, Any], list[Row]] = defaultdict(list)
    for row in history.log:
        if isinstance(row.value, str) and not row.is_command_or_reply:
            places[row.asset, row.attribute, row.value].append(row)
    begun: dict[tuple[str, str, str], float] = {}
    for record in history.records:
        last: dict[tuple[str, str], tuple[int, int]] = {}
        for note in record:
            if "wrote" in note:
                begun[note["asset"], note["attribute"], note["wrote"]] = note["at"]
            elif "acknowledged" in note:
                key = note["asset"], note["attribute"], note["acknowledged"]
                writer = note["asset"], note["attribute"]
                for row in places[key]:
                    if row.place <= last.get(writer, (0, -1)):
                        yield "out of order", f"{note} stands before what the same writer wrote earlier"
                    position = note.get("position", row.position) % _LOG_STEP
                    if row.position != position and not history.may_be_gone(begun[key]):
                        yield "told otherwise", f"{note} is at {row.position}"
                    last[writer] = max(row.place, last.get(writer, row.place))
                if not places[key] and not history.may_be_gone(begun[key]):
                    yield "lost", f"{note} is not in the log"
    recorded = {key[:2] for key in begun}
    for key, rows in places.items():
        if key[:2] not in recorded or key[2] in ("", "UNAVAILABLE"):
            continue
        if key not in begun:
            yield "written by nobody", f"{key} is at {[row.place for row in rows]}"
        if max(Counter(row.epoch for row in rows).values(), default=0) > 1:
            yield "doubled", f"{key} is at {[row.place for row in rows]}"


def holes(history: History) -> Iterator[tuple[str, str]]:
    """Positions rise by one: nothing was taken out."""
    last: dict[tuple[int, int], int] = {}
    for row in history.log:
        before = last.get((row.epoch, row.partition), row.position - 1)
        if row.position != before + 1:
            yield "hole", f"after position {before} of partition {row.partition} stands {row.position}"
        last[row.epoch, row.partition] = row.position


def wrong_commands(history: History) -> Iterator[tuple[str, str]]:
    """Each command ran at most once, has one outcome, and its caller was told no other."""
    ran = Counter(note["ran"] for note in history.notes("ran"))
    yield from (("run twice", f"{token} ran {count} times") for token, count in ran.items() if count > 1)
    sent = {note["calls"]: note["at"] for note in history.notes("calls")}
    outcomes = told_outcomes(history.log)
    for token, told in outcomes.items():
        if token not in sent:
            yield "written by nobody", f"the command {token}"
        elif len(told) > 1:
            yield "told otherwise", f"{token} has the outcomes {sorted(told, key=str)}"
        elif not told and not history.may_be_gone(sent[token]):
            yield "without an outcome", f"{token} has no reply in the log"
    for token in (token for token in ran if token not in sent):
        yield "written by nobody", f"{token} ran, and was not sent"
    for note in history.notes("called"):
        token = note["called"]
        if history.may_be_gone(sent[token]):
            continue
        known = outcomes.get(token)
        if known is None and note["outcome"] in _STATUS_TOLD:
            yield "told otherwise", f"{token} is not in the log, and its caller was told {note}"
        for status, result, error in known or ():
            expected = _STATUS_TOLD.get(note["outcome"])
            if expected not in (None, status) or (expected == "succeeded" and result != note["result"]):
                yield "told otherwise", f"{token} was {status} in the log, and its caller was told {note}"
            if (status in ("succeeded", "failed") and ran[token] != 1) or (
                status in ("rejected", "expired", "cancelled") and ran[token] and "before the app's start" not in error
            ):
                yield "told otherwise", f"{token} was {status} ({error}) and ran {ran[token]} times"


def late_runs(history: History) -> Iterator[str]:
    """No command begins after its caller has given up, but for the moment between the check and the begin."""
    called = {note["called"]: note for note in history.notes("called")}
    for note in history.notes("ran"):
        call = called.get(note["ran"])
        if call is not None and (late := note["at"] - call["ended"]) > _LATE_SECONDS:
            yield f"{note['ran']} ran {late:.1f} s after its caller had given up"


def told_outcomes(log: Iterable[Row]) -> dict[str, set[tuple[str, Any, str]]]:
    """The outcomes that replies tell of each command, by its token."""
    tokens: dict[str, str] = {}
    outcomes: dict[str, set[tuple[str, Any, str]]] = {}
    replies: list[Note] = []
    for row in log:
        if row.tag == "Method.Command":
            command = json.loads(row.value)
            token = command["arguments"]["token"]
            tokens[command["header"]["correlation_id"]] = token
            outcomes.setdefault(token, set())
        elif row.tag == "Method.Reply":
            replies.append(json.loads(row.value))
    for reply in replies:
        if (known := tokens.get(reply["correlation_id"])) is not None:
            outcomes[known].add((reply["status"], reply["result"], reply["error"] or ""))
    return outcomes


def late_calls(history: History) -> Iterator[str]:
    """No caller waits longer than its timeout, in time in which it could run."""
    stops: dict[int, list[Stop]] = defaultdict(list)
    for stop in history.stops:
        stops[stop.pid].append(stop)
    for note in history.notes("called"):
        begin, end = note["at"], note["ended"]
        stopped = sum(max(0.0, min(end, stop.end) - max(begin, stop.begin)) for stop in stops[note["pid"]])
        if (waited := end - begin - stopped) > note["timeout"] + _LATE_SECONDS:
            yield f"{note} waited {waited:.1f} s"


def figures(history: History, found: Iterable[Violation]) -> dict[str, int]:
    """The counts of a run, by name."""
    broken = Counter(violation.kind for violation in found)
    outcomes = Counter(note["outcome"] for note in history.notes("called"))
    there = {(row.asset, row.attribute, row.value) for row in history.log if isinstance(row.value, str)}
    failed = [(note["asset"], note["attribute"], note["failed"]) for note in history.notes("failed")]
    return {
        "events in the log": len(history.log),
        "acknowledged": sum(1 for _ in history.notes("acknowledged")),
        "reported as failed": len(failed),
        "reported as failed, and in the log": sum(write in there for write in failed),
        **{kind: broken.pop(kind, 0) for kind in ("lost", "doubled", "out of order", "written by nobody", "hole")},
        "commands sent": sum(1 for _ in history.notes("calls")),
        "runs of methods": sum(1 for _ in history.notes("ran")),
        "run twice": broken.pop("run twice", 0),
        "unanswered beyond their timeout": broken.pop("told late", 0),
        "told otherwise than the log has": broken.pop("told otherwise", 0),
        **{f"callers told {outcome}": count for outcome, count in sorted(outcomes.items())},
        "events heard": sum(len(watch.heard) for watch in history.watches),
        "gaps told": sum(watch.gaps for watch in history.watches),
        "misheard": broken.pop("misheard", 0),
        "wrong state": broken.pop("wrong state", 0),
        **broken,
    }
