"""Watch over the forwarders: whether the records of the log reach NATS in time.

A forwarder of OpenFactory tells its progress on NATS. Another forwarder is judged by the offsets that its consumer
group has committed, compared with the ends of the partitions: one small request every few seconds. Own writes that do
not come back, and other events of the log that do not arrive, prove in any case that it stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from openfactory.engines.fanout.wire import Progress

__all__ = ["ForwarderWatch", "Late", "Line"]

#: Seconds without progress after which a forwarder counts as standing still: it tells its progress once a second.
SILENT_SECONDS = 5.0

#: Seconds after which a record that is not forwarded is late.
LATE_SECONDS = 5.0

#: Seconds from the connection to the first progress after which the forwarder that tells it has replaced another one.
TAKEOVER_SECONDS = 3.0


class Line(NamedTuple):
    """The way of the records of a partition to a NATS cluster."""

    cluster: str
    partition: int


class Late(NamedTuple):
    """The reason why the events of a line are late, and the time in seconds since 1970 up to which all have arrived."""

    reason: str
    good_at: float


class _Course:
    """The way of a forwarder through a partition: a position, and the end that it should reach in time."""

    def __init__(self, now: float) -> None:
        self.position = -1
        self.goal = 0
        self.goal_at = self.noted_at = now
        self.moved_at = 0.0
        self.good_at = time.time()  # when the end was seen that it has reached since then

    def note(self, position: int, now: float) -> None:
        """Note a position of the forwarder."""
        if 0 <= self.position < position:
            self.moved_at = now
        self.position = position
        self.noted_at = now

    def aim(self, end: int, now: float) -> None:
        """Note the end of the partition as the next goal, if the last one is reached."""
        if self.position >= self.goal:
            self.good_at = time.time() - (now - self.goal_at)
            self.goal, self.goal_at = end, now

    def is_behind(self, now: float) -> bool:
        """Return whether the goal was not reached in time."""
        return self.position < self.goal and now - self.goal_at > LATE_SECONDS


class ForwarderWatch:
    """The lines to the NATS clusters, and which of them are late.

    Args:
        ends: returns the end of each partition, from the start of the present log.
        committed: returns the offsets that the consumer group of another forwarder has committed, by partition; a
            partition without one is not included.
        group: name of that consumer group.

    Attributes:
        late: the lines whose events are late.
        unknown: the clusters of whose forwarders nothing is known.
    """

    def __init__(
        self, ends: Callable[[], Mapping[int, int]], committed: Callable[[], Mapping[int, int]], group: str
    ) -> None:
        self.late: dict[Line, Late] = {}
        self.unknown: set[str] = set()
        self._ends = ends
        self._committed = committed
        self._group = group
        self._telling: dict[Line, _Course] = {}
        self._began: dict[str, float] = {}  # by cluster, when a forwarder has told its progress for the first time
        self._new: set[str] = set()  # the clusters of which a forwarder has said that its group is new
        self._group_courses: dict[int, _Course] = {}
        self._looked_at = 0.0
        self._found: set[Line] = set()

    def note_progress(self, cluster: str, partition: int, progress: Progress) -> None:
        """Note the progress that a forwarder has told; on the thread of NATS."""
        now, line = time.monotonic(), Line(cluster, partition)
        self._began.setdefault(cluster, now)
        if progress.is_new and cluster not in self._new:
            self._new.add(cluster)
            self._began[cluster] = now
        course = self._telling.get(line)
        if course is None:
            course = self._telling[line] = _Course(now)
        course.note(progress.position, now)
        course.aim(progress.end, now)

    def taken_over_at(self, cluster: str, connected_at: float | None, default: float | None = None) -> float | None:
        """Return when a forwarder has begun whose messages lack events before it, or None.

        It has replaced another one, which does not tell its progress, or its group is new.

        Args:
            cluster: the cluster.
            connected_at: time of the connection by the monotonic clock.
            default: time of the replacement if no progress was told yet.
        """
        began = self._began.get(cluster, default)
        if began is None or connected_at is None:
            return None
        earliest = connected_at if cluster in self._new else connected_at + TAKEOVER_SECONDS
        return began if began >= earliest else None

    def look(self, clusters: Mapping[str, float | None], interval: float, overdue: Mapping[Line, float]) -> None:
        """Judge all lines, and set `late`.

        Args:
            clusters: the clusters, each with the time of the connection by the monotonic clock, or None without one.
                Without a connection nothing new is known.
            interval: seconds between two looks. If they are further apart, this process did not run.
            overdue: the lines on which events do not arrive, each with the time of such an event in seconds since 1970.

        Raises:
            EngineUnavailableError: the broker does not answer; `late` is unchanged.
        """
        now = time.monotonic()
        connected = {cluster: since for cluster, since in clusters.items() if since is not None}
        courses_of = self._telling.copy()  # meanwhile the threads of NATS add lines
        if now - self._looked_at > 2 * interval:
            courses = [course for line, course in courses_of.items() if line not in self.late]
            for course in (*courses, *(self._group_courses.values() if not self.late else ())):
                course.noted_at = course.goal_at = now
        self._looked_at = now
        silent = {
            line: course
            for line, course in courses_of.items()
            if now - max(course.noted_at, connected.get(line.cluster, now)) > SILENT_SECONDS
        }
        telling = {line.cluster for line in courses_of if line not in silent}
        if silent or not connected.keys() <= telling:
            self._ask_group(now)
        self.unknown = set() if self._group_courses else {*connected} - {line.cluster for line in courses_of}
        late = {line: found for line, found in self.late.items() if clusters.get(line.cluster, 0.0) is None}
        for cluster in connected:
            for line, course in courses_of.items():
                if line.cluster == cluster and (found := self._judge(line, course, line in silent, now)):
                    late[line] = found
            if cluster not in telling and not any(line.cluster == cluster for line in silent):
                late |= self._judge_group(cluster, now)
        for line, missed_at in overdue.items():
            if line not in late and (line not in courses_of or line in silent):
                late[line] = Late("events in the log have not arrived", missed_at)
        # A line ends one look later, so that the messages that its forwarder has published have arrived.
        self.late, self._found = {line: self.late[line] for line in self._found & self.late.keys()} | late, set(late)

    def begin_log(self) -> None:
        """Forget the positions in the former log; on another thread than `look`, which goes on with its own."""
        self._telling = {}
        self._group_courses = {}

    def _ask_group(self, now: float) -> None:
        """Ask for the ends of the partitions, or for the positions of the group while it has not reached them."""
        courses = self._group_courses
        underway = [course for course in courses.values() if course.position < course.goal]
        if underway or not courses:
            for partition, position in self._committed().items():
                courses.setdefault(partition, _Course(now)).note(position, now)
        if courses and all(course.is_behind(now) for course in underway):
            for partition, end in self._ends().items():
                if partition in courses:
                    courses[partition].aim(end, now)

    def _judge(self, line: Line, course: _Course, is_silent: bool, now: float) -> Late | None:
        if not is_silent:
            if not course.is_behind(now):
                return None
            return Late(f"it is {course.goal - course.position} records behind", course.good_at)
        group = self._group_courses.get(line.partition)
        if group is not None and group.moved_at > course.noted_at and not group.is_behind(now):
            return None  # another forwarder has taken over
        return Late(f"it has told no progress for {now - course.noted_at:.0f} s", course.good_at)

    def _judge_group(self, cluster: str, now: float) -> dict[Line, Late]:
        return {
            Line(cluster, partition): Late(
                f"its consumer group {self._group} has not passed offset {course.position} for "
                f"{now - course.goal_at:.0f} s",
                course.good_at,
            )
            for partition, course in self._group_courses.items()
            if course.is_behind(now)
        }
