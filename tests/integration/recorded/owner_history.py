"""When each process of a run lived, what watchers heard and read of its assets, and the promises about owners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from history import Note, Stop, Violation

__all__ = ["Life", "OwnerHistory", "OwnerWatch", "seconds_until_known", "violations_of_owners"]

# Seconds within which a started process, or one that goes on, must be seen as the owner. A machine that is busy
# takes long to start several processes.
_SETTLING = 10.0

# Seconds by which two processes may note one moment apart.
_SLACK = 1.0

# Share of the bound for which a process must be silent before others may call it ended.
_FROZEN = 0.4

# An end that a process writes about another begins so; a process gives other reasons for its own end.
_BY_OTHERS = "process "


@dataclass
class Life:
    """One process, on the monotonic clock of the machine.

    Attributes:
        record: file with its notes.
        kind: how it has ended, or will end.
        runs: when all its apps ran, or None if they never did.
        ending: when its end began, by a signal for example.
        ended: when it had ended, or None while it lives.
        silences: times in which it was frozen or cut off.
    """

    pid: int
    uuids: Sequence[str]
    started: float
    record: Path
    kind: str = "end of the run"
    runs: float | None = None
    ending: float | None = None
    ended: float | None = None
    silences: list[Stop] = field(default_factory=list)


@dataclass
class OwnerWatch:
    """What one watcher noted, and when it was frozen."""

    name: str
    notes: list[Note]
    stops: list[Stop]

    @property
    def began(self) -> float:
        return next((note["at"] for note in self.notes if "watching" in note), float("inf"))

    def was_awake(self, begin: float, end: float) -> bool:
        return self.began < begin and not any(stop.begin < end and begin < stop.end + _SLACK * 2 for stop in self.stops)

    def readings(self, uuid: str, begin: float, end: float) -> Iterator[Note]:
        """What it read of an asset during a time."""
        before: Note | None = None
        for note in self.notes:
            if note.get("reads") != uuid or note["at"] > end:
                continue
            if note["at"] <= begin:
                before = note
                continue
            if before is not None:
                yield before
                before = None
            yield note
        if before is not None:
            yield before

    def ends(self) -> Iterator[tuple[tuple[str, str], Note]]:
        """The ends that it heard, by the asset and the epoch of the owner."""
        return (((note["heard"], note["epoch"]), note) for note in self.notes if note.get("ended") and "heard" in note)


@dataclass
class OwnerHistory:
    """A whole run.

    Attributes:
        bound: seconds within which an end must be known.
        lives: all processes with apps, in the order of their starts.
        outages: times in which the broker was away.
        owners: by asset and epoch, the process id of each claim in the log.
        ran: notes of the methods that apps have run.
    """

    bound: float
    lives: list[Life]
    watches: list[OwnerWatch]
    outages: list[Stop]
    owners: dict[tuple[str, str], int]
    ran: list[Note]
    ended: float
    problems: list[str]

    def due(self, begin: float) -> float:
        """When an end must be known; the time of an outage does not count."""
        due = begin + self.bound
        for outage in self.outages:
            if outage.begin < due and begin < outage.end:
                due = outage.end + self.bound
        return due + _SLACK

    def told(self, life: Life) -> str:
        """What happened to a process, in seconds after its start."""
        silent, away = (
            [f"{stop.begin - life.started:.1f} to {stop.end - life.started:.1f}" for stop in stops]
            for stops in (life.silences, self.outages)
        )
        return f"the start of pid {life.pid} ({life.kind}; silent {silent}; broker away {away})"

    def next_start(self, life: Life, uuid: str) -> float:
        """When another process started to take the place of one."""
        return min(
            (other.started for other in self.lives if uuid in other.uuids and other.started > life.started),
            default=float("inf"),
        )


def violations_of_owners(history: OwnerHistory) -> list[Violation]:
    """What in a run breaks a promise."""
    return [
        *(Violation("ended wrongly", text) for text in history.problems),
        *(Violation("left available", text) for text in _left_available(history)),
        *(Violation("called dead", text) for text in _called_dead(history)),
        *(Violation("not as its owner lives", text) for text in _wrong_readings(history)),
        *(Violation("not heard once", text) for text in _not_heard_once(history)),
        *(Violation("wrong run", text) for text in _wrong_runs(history)),
    ]


def _silent_times(history: OwnerHistory, life: Life) -> Iterator[tuple[str, float, float]]:
    """The times in which a process with apps gave no sign, to their ends."""
    for silence in life.silences:
        yield "frozen or cut off", silence.begin, silence.end
    if life.ended is not None:
        yield life.kind, life.ended, float("inf")


def _unknown_ends(history: OwnerHistory) -> Iterator[tuple[Life, str, str, float, float]]:
    """Each end that must have been known before anything else happened: process, asset, kind, begin and due."""
    for life in history.lives:
        for uuid in life.uuids if life.runs is not None else ():
            for kind, begin, end in _silent_times(history, life):
                due = history.due(begin)
                if due < min(end, history.next_start(life, uuid), history.ended):
                    yield life, uuid, kind, begin, due


def _left_available(history: OwnerHistory) -> Iterator[str]:
    for life, uuid, kind, begin, due in _unknown_ends(history):
        for watch in history.watches:
            if not watch.was_awake(begin, due + _SLACK):
                continue
            for note in watch.readings(uuid, due, due + 0.01):
                if note["value"] == "AVAILABLE":
                    yield f"{watch.name} read {uuid} AVAILABLE {due - begin:.1f} s after pid {life.pid} was {kind}"


def seconds_until_known(history: OwnerHistory) -> dict[str, list[float]]:
    """The seconds from each end, or from the end of an outage, until all watchers have read it, by its kind."""
    seconds: dict[str, list[float]] = {}
    for _, uuid, kind, begin, due in _unknown_ends(history):
        known = [
            next(
                (note["at"] for note in watch.readings(uuid, begin, history.ended) if note["value"] != "AVAILABLE"),
                float("inf"),
            )
            for watch in history.watches
            if watch.was_awake(begin, due + _SLACK)
        ]
        if known:
            since = max([begin, *(outage.end for outage in history.outages if begin < outage.end < due)])
            seconds.setdefault(kind, []).append(max(max(known) - since, 0.0))
    return seconds


def _called_dead(history: OwnerHistory) -> Iterator[str]:
    """An end that another process told is that of a process that had ended, or was silent for long enough."""
    first: dict[tuple[str, str], Note] = {}
    for watch in history.watches:
        for key, note in watch.ends():
            if key not in first or note["at"] < first[key]["at"]:
                first[key] = note
    for (uuid, epoch), note in first.items():
        if not note["ended"].startswith(_BY_OTHERS):
            continue
        pid, at = history.owners.get((uuid, epoch)), note["at"]
        life = next((life for life in history.lives if life.pid == pid and uuid in life.uuids), None)
        if life is None:
            yield f"{uuid}: an owner that nobody knows (epoch {epoch}, pid {pid}): {note['ended']}"
        elif not any(
            begin <= at - (-_SLACK if end == float("inf") else history.bound * _FROZEN) and at <= end + _SETTLING
            for _, begin, end in _silent_times(history, life)
        ):
            yield f"{uuid} of pid {pid} lived {at - life.started:.1f} s after {history.told(life)}: {note['ended']}"


def _living_times(history: OwnerHistory, life: Life, uuid: str) -> Iterator[tuple[float, float]]:
    """The times in which a process must be seen as the owner of an asset, after it has settled."""
    if life.runs is None:
        return
    end = min(life.ending or history.ended, history.next_start(life, uuid), history.ended)
    begin = life.runs + _SETTLING
    for silence in sorted([*life.silences, *history.outages], key=lambda stop: stop.begin):
        if silence.begin < end:
            yield begin, silence.begin
            begin = max(begin, silence.end + _SETTLING)
    yield begin, end


def _wrong_readings(history: OwnerHistory) -> Iterator[str]:
    for life in history.lives:
        for uuid in life.uuids:
            for begin, end in _living_times(history, life, uuid):
                for watch in history.watches if begin < end else ():
                    if not watch.was_awake(begin, end):
                        continue
                    for note in watch.readings(uuid, begin, end - 0.2):
                        if (
                            note["value"] != "AVAILABLE"
                            or note.get("pid", life.pid) != life.pid
                            or not note.get("registered", True)
                        ):
                            when = f"{note['at'] - life.started:.1f} s after {history.told(life)}"
                            yield f"{watch.name} {when}, which lived until {end - life.started:.1f}: {note}"


def _not_heard_once(history: OwnerHistory) -> Iterator[str]:
    heard = {watch.name: Counter(key for key, _ in watch.ends()) for watch in history.watches}
    first: dict[tuple[str, str], float] = {}
    for watch in history.watches:
        for key, note in watch.ends():
            first[key] = min(note["at"], first.get(key, note["at"]))
    for watch in history.watches:
        for key, at in first.items():
            count = heard[watch.name][key]
            is_expected = watch.began + _SLACK < at < history.ended - _SETTLING
            if count > 1 or (is_expected and count == 0):
                yield f"{watch.name} heard the end of {key} {count} times, {history.ended - at:.1f} s before the end"


def _wrong_runs(history: OwnerHistory) -> Iterator[str]:
    """A command ran once, by the process that owned the asset."""
    yield from (
        f"{token} ran {count} times" for token, count in Counter(n["ran"] for n in history.ran).items() if count > 1
    )
    for note in history.ran:
        life = next(life for life in history.lives if life.pid == note["pid"])
        later = [
            other
            for other in history.lives
            if note["asset"] in other.uuids
            and other.started > life.started
            and other.runs is not None
            and other.runs + _SLACK < note["at"]
        ]
        if later:
            yield f"{note} ran in a process that had lost its asset to {later[0].pid}"
