"""The output of the demo: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from openfactory.assets import Asset
from openfactory.commands import CommandEnvelope, CommandReply

SHOWN = {
    "mill": ("status", "parts", "spindle_speed", "temperature"),
    "shift_leader": ("decision", "batch_size"),
    "dashboard": (),
}
STYLES = {"mill": "cyan", "shift_leader": "magenta", "dashboard": "blue", "AVAILABLE": "green", "succeeded": "green"}
BARS = "▁▂▃▄▅▆▇█"
NAMES_WIDTH, VALUES_WIDTH = 15, 26


class Event(NamedTuple):
    """An event of an asset."""

    asset: str
    id: str
    value: Any
    type: str
    tag: str
    timestamp: str


class View(Protocol):
    """The output of the events and attributes of the factory."""

    def hear(self, event: Event) -> None:
        """Receive an event."""

    def tick(self, note: str = "") -> None:
        """Show the current state."""

    def close(self) -> None:
        """End the output."""


def told(event: Event) -> Text | None:
    """Return an event as a line of the log; None for samples, and for the standard attributes of apps."""
    if event.tag == "Method.Command":
        command = CommandEnvelope.parse(event.value)
        arguments = "".join(f" {name}={text}" for name, text in command.arguments.items())
        line = Text.assemble(
            styled(command.header.sender_uuid), " → ", styled(event.asset), f"  {event.id[:-4]}{arguments}"
        )
    elif event.tag == "Method.Reply":
        reply = CommandReply.parse(event.value)
        outcome = reply.error or reply.result
        line = Text.assemble(styled(event.asset), "  ", styled(reply.status), f": {outcome}" if outcome else "")
    elif event.type == "Events" and not event.tag.startswith(("Application.", "Library.")):
        line = Text.assemble(styled(event.asset), f".{event.id} = ", (written(event.value), "bold"))
    else:
        return None
    return Text.assemble((f"{event.timestamp[11:23]}  ", "dim"), line)


def styled(text: str) -> Text:
    return Text(text, STYLES.get(text, "yellow"))


def written(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


class Lines:
    """One line per event, and one line per second with the samples of the mill."""

    def __init__(self, assets: Mapping[str, Asset], pages: Mapping[str, str], missing: str) -> None:
        self._assets = assets
        self._pages = pages
        self._next = time.monotonic() + 1
        self._note = ""
        if missing:
            print(missing, flush=True)

    def hear(self, event: Event) -> None:
        if (line := told(event)) is not None:
            print(line.plain, flush=True)
        if (event.id, event.value) == ("avail", "AVAILABLE") and event.asset in self._pages:
            print(f"              Open {self._pages[event.asset]} in a browser.", flush=True)

    def tick(self, note: str = "") -> None:
        if note != self._note:
            self._note = note
            print(note, flush=True)
        if note or time.monotonic() < self._next:
            return
        self._next += 1
        mill = self._assets["mill"]
        samples = (f"{name} = {written(mill[name].value)}" for name in SHOWN["mill"][2:] if name in mill)
        print(f"              {', '.join(samples)}", flush=True)

    def close(self) -> None:
        pass


class Picture:
    """The attributes, the course of the samples, and the newest lines of the log."""

    def __init__(
        self, assets: Mapping[str, Asset], pages: Mapping[str, str], hints: Sequence[str], console: Console
    ) -> None:
        self._assets = assets
        self._pages = pages
        self._hints = hints
        self._started = time.monotonic()
        self._courses: dict[tuple[str, str], deque[float]] = {}
        self._log: deque[Text] = deque(maxlen=200)
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def hear(self, event: Event) -> None:
        if event.type == "Samples" and isinstance(event.value, (int, float)):
            self._courses.setdefault((event.asset, event.id), deque(maxlen=400)).append(event.value)
        elif event.id != "avail" and (line := told(event)) is not None:  # the picture shows avail beside the name
            line.no_wrap, line.overflow = True, "ellipsis"
            self._log.append(line)

    def tick(self, note: str = "") -> None:
        self._live.update(self._drawn(note or "Ctrl-C ends it."), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _drawn(self, note: str) -> RenderableType:
        console = self._live.console
        attributes = self._attributes(console.width)
        # The other rows are three rules, the hints, the note, and the lines after the end of the demo.
        room = max(console.height - attributes.row_count - len(self._hints) - 7, 3)
        log = list(self._log)[-room:]
        passed = f"{time.monotonic() - self._started:.0f} s"
        return Group(
            Rule(f"A small factory, {passed}", style="dim"),
            attributes,
            Rule("Events", style="dim"),
            *log,
            *[Text()] * (room - len(log)),
            Rule("From another terminal", style="dim"),
            *[Text(hint, no_wrap=True, overflow="ellipsis") for hint in self._hints],
            Text(note, style="dim"),
        )

    def _attributes(self, room: int) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for width in (NAMES_WIDTH, VALUES_WIDTH, None):
            table.add_column(no_wrap=True, overflow="ellipsis", width=width)
        for name, asset in self._assets.items():
            table.add_row(styled(name), styled(asset.avail.value), self._pages.get(name, ""))
            for attribute_id in SHOWN[name]:
                course = self._courses.get((name, attribute_id), ())
                drawn = bars(course, room - NAMES_WIDTH - VALUES_WIDTH - 4)
                value = Text(written(asset[attribute_id].value), "bold")
                table.add_row(f"  {attribute_id}", value, Text(drawn, STYLES[name]))
        return table


def bars(course: Sequence[float], width: int) -> str:
    """Return the newest numbers as bars, scaled from the smallest to the largest number."""
    if not course:
        return ""
    low, high = min(course), max(course)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - low) / step)] for value in list(course)[-width:])
