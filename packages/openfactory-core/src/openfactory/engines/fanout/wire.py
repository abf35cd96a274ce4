"""The headers and the progress messages that a forwarder of OpenFactory adds on NATS."""

from __future__ import annotations

import msgspec

__all__ = ["LOG_TIME_HEADER", "OFFSET_HEADER", "PARTITION_HEADER", "PROGRESS_SUBJECT", "Progress"]

#: Header of a message: number of the partition that has its record.
PARTITION_HEADER = "OFA-Partition"

#: Header of a message: offset of its record in the topic.
OFFSET_HEADER = "OFA-Offset"

#: Header of a message: time of its record in the log, in milliseconds since 1970.
LOG_TIME_HEADER = "OFA-Log-Time"

#: Subject of the progress of forwarders, followed by a dot and the number of a partition.
PROGRESS_SUBJECT = "_OFA.forwarder"


class Progress(msgspec.Struct):
    """The progress of a forwarder in one partition, published once a second to the cluster that it serves.

    Attributes:
        position: offset after the last record of this cluster that NATS has.
        end: end of the partition, as the forwarder knows it.
        time: time of the message, in milliseconds since 1970.
        forwarder: UUID of the forwarder.
    """

    position: int
    end: int
    time: int
    forwarder: str
