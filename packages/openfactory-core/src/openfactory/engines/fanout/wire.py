"""The wire between the asset forwarder and its watchers: the headers of a message, and the progress of a partition."""

from __future__ import annotations

import msgspec

__all__ = ["LOG_TIME_HEADER", "OFFSET_HEADER", "PARTITION_HEADER", "PROGRESS_SUBJECT", "Progress"]

#: NATS header with the number of the record's partition.
PARTITION_HEADER = "OFA-Partition"

#: NATS header with the offset of the record in its partition.
OFFSET_HEADER = "OFA-Offset"

#: NATS header with the time of the record in the log, in milliseconds since 1970.
LOG_TIME_HEADER = "OFA-Log-Time"

#: Begin of the subject of a progress message; a dot and the number of the partition follow.
PROGRESS_SUBJECT = "_OFA.forwarder"


class Progress(msgspec.Struct):
    """The progress of a forwarder in one partition, which it publishes every second to the cluster that it serves.

    Attributes:
        position: the offset up to which NATS has all records of the cluster.
        end: the end of the partition, as far as the forwarder knows it.
        time: when the message was made, in milliseconds since 1970.
        forwarder: UUID of the forwarder.
        topic: name of the topic; several factories may share a NATS cluster.
        is_new: whether its consumer group has just begun at the end of the log, and lacks the records before it.
    """

    position: int
    end: int
    time: int
    forwarder: str
    topic: str
    is_new: bool = False
