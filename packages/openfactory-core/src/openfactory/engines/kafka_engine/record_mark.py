"""The mark of a record, by which the log is recognised that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["RecordMark"]


class RecordMark(NamedTuple):
    """A record as it is recognised: its offset, and its time in milliseconds since 1970."""

    offset: int
    milliseconds: int

    @classmethod
    def of(cls, message: Message) -> RecordMark:
        """Return the mark of a record."""
        return cls(message.offset() or 0, message.timestamp()[1])
