"""What watchers heard, checked against the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from history import Note, Row

__all__ = ["Watch", "misheard", "wrong_states"]

# An event of an earlier log may reach a callback this much later than the new log is there.
_SETTLED_SECONDS = 30.0


@dataclass
class Watch:
    """One life of a watcher.

    Attributes:
        notes: `watching` with the position at which it began, then, in their order, each event that a stream `heard`
            and each `gap` of the engine; at last its `state`.
        lived: whether it was there to the end. Of the others only the order is checked.
    """

    notes: list[Note]
    lived: bool = True

    @property
    def heard(self) -> list[Note]:
        return [note for note in self.notes if "heard" in note]

    @property
    def gaps(self) -> int:
        return sum("gap" in note for note in self.notes)

    def stream(self, name: str, asset: str) -> list[Note]:
        """The events that a stream heard of an asset, and the asset's gaps."""
        return [
            note
            for note in self.notes
            if note.get("gap") == asset or (note.get("stream") == name and note["heard"][0] == asset)
        ]


def misheard(log: Sequence[Row], watches: Sequence[Watch], made_anew: Sequence[float]) -> Iterator[str]:
    """Each stream heard of each asset events of the log, in its order, and all of them after its last gap."""
    rows_of: dict[str, list[Row]] = {}
    for row in log:
        if row.is_heard:
            rows_of.setdefault(row.asset, []).append(row)
    settled = max(made_anew, default=-_SETTLED_SECONDS) + _SETTLED_SECONDS
    for watch in watches:
        watching = next((note for note in watch.notes if "watching" in note), None)
        for asset in watching["assets"] if watching else ():
            for name in ("engine", "callback"):
                rows = [row for row in rows_of.get(asset, ()) if name == "engine" or row.type != "Method"]
                notes = watch.stream(name, asset)
                where = f"the {name} of a watcher of {asset}"
                yield from (f"{where} {text}" for text in _wrong_order(notes, rows, made_anew, settled))
                if watch.lived and watching:
                    yield from (f"{where} {text}" for text in _missed(name, notes, rows, watching, made_anew))


def _wrong_order(
    notes: Sequence[Note], rows: Sequence[Row], made_anew: Sequence[float], settled: float
) -> Iterator[str]:
    """The events heard are events of the log, in its order, each once; what an earlier log had may be unknown."""
    places: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        places.setdefault((row.attribute, repr(row.value)), []).append(index)
    at = -1
    for note in notes:
        if "gap" in note:
            continue
        _, attribute, value = note["heard"]
        epoch = sum(made <= note["at"] for made in made_anew)
        known = places.get((attribute, repr(value)), [])
        found = next((index for index in known if index > at and rows[index].epoch <= epoch), None)
        if found is not None:
            at = found
        elif note["at"] >= settled:
            places_known = [rows[index].place for index in known]
            yield f"heard {attribute} {value!r} (in the log at {places_known}) after the event at {rows[at].place}"
            return


def _missed(
    name: str, notes: Sequence[Note], rows: Sequence[Row], watching: Note, made_anew: Sequence[float]
) -> Iterator[str]:
    """After its last gap it heard the end of the log; callbacks heard the last event of each attribute at least.

    A callback runs some time after the engine has told the gap, so its place among the callbacks is not known.
    """
    gaps = [index for index, note in enumerate(notes) if "gap" in note]
    since = notes[gaps[-1]] if gaps else watching
    due = [row for row in rows if _is_after(row, since, made_anew)]
    if gaps and name == "callback":
        told = {note["heard"][1]: note["heard"][2] for note in notes if "heard" in note}
        for row in {row.attribute: row for row in due if not row.is_command_or_reply}.values():
            if told.get(row.attribute) != row.value:
                yield f"heard last of {row.attribute} {told.get(row.attribute)!r}, where {row.value!r} stands"
        return
    heard = [note["heard"][1:] for note in notes[gaps[-1] + 1 if gaps else 0 :]]
    end = [[row.attribute, row.value] for row in rows][-len(heard) :] if heard else []
    wrong = next((n for n, (one, other) in enumerate(zip(heard, end, strict=False)) if one != other), None)
    if wrong is not None or len(heard) > len(end):
        n = wrong or 0
        yield f"heard {heard[n]} where {end[n] if end else 'nothing'} stands"
    elif len(heard) < len(due):
        yield f"missed {len(due) - len(heard)} events after {since['position']}, first {due[0]}"


def _is_after(row: Row, since: Note, made_anew: Sequence[float]) -> bool:
    """Whether an event is behind the position of a note; all of a log are that was made anew since then."""
    if row.epoch < len(made_anew):
        return False
    position = since["position"]
    before: int = position.get(str(row.partition), -1) if isinstance(position, dict) else position
    return since["at"] < max(made_anew, default=0.0) or row.position > before


def wrong_states(log: Sequence[Row], watches: Sequence[Watch]) -> Iterator[str]:
    """A watcher that is there at the end reads the last value of each attribute in the log."""
    newest = max((row.epoch for row in log), default=0)
    ends: dict[str, dict[str, Any]] = {}
    for row in log:
        if row.epoch == newest and row.is_heard and row.is_attribute:
            ends.setdefault(row.asset, {})[row.attribute] = row.value
    for number, watch in enumerate(watches):
        if not watch.lived:
            continue
        state = next((note["state"] for note in watch.notes if "state" in note), None)
        if state is None:
            yield f"watcher {number} did not hear the end of the run"
            continue
        for asset, values in state.items():
            for attribute, value in ends.get(asset, {}).items():
                if values.get(attribute) != value:
                    yield f"{asset}.{attribute} reads {values.get(attribute)!r}, where {value!r} stands"
