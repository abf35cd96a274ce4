"""When a process counts as ended, and what is written then."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from openfactory.concurrency import process_identity
from openfactory.engines import liveness as module
from openfactory.engines.embedded.presence import FilePresence
from openfactory.engines.liveness import Liveness, liveness_timeout
from openfactory.engines.presence import LocalPresence, Sight
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.ownership import AVAILABILITY_ID, OWNER_ID, Owner, counts, owned, owner_in
from openfactory.events.receipt import Receipt
from openfactory.exceptions import (
    ConfigurationError,
    DeliveryError,
    DeliveryTimeout,
    EngineUnavailableError,
    OpenFactoryError,
)

OTHER = Owner("other", 10, 0, "m3", 4711, "2026-01-01T00:00:00.000Z")

# Seconds that a process must be silent. A look counts for a tenth to a fifth of them, however late it is: four are too
# few, and ten are enough.
PATIENCE = 0.2
TOO_FEW, ENOUGH = 4, 10


class Presence(LocalPresence):
    """A mechanism that shows what the test says, and is looked at as often as the test permits."""

    is_shared, patience, lag, silence = True, PATIENCE, 0.0, "is silent"

    def __init__(self) -> None:
        super().__init__("this")
        self.sight = Sight.LIVES
        self.forgotten: list[str] = []
        self._begun = 0
        self._permitted = 0.0
        self._changed = threading.Condition()

    def beat(self) -> None:
        """Begin a look as soon as it is permitted."""
        with self._changed:
            self._begun += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._begun <= self._permitted, 60)

    def permit(self, times: float) -> None:
        with self._changed:
            self._permitted += times
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until the looks that are permitted are over."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._begun > self._permitted, 60)

    def look(self, instances: Collection[str]) -> Mapping[str, Sight]:
        return dict.fromkeys(instances, self.sight)

    peek = look

    def last_seen(self, instance: str) -> float | None:
        return 0.0

    def forget(self, instance: str) -> None:
        self.forgotten.append(instance)


class Asset:
    """An asset that another process owns, and what is written of it."""

    def __init__(self, owner: Owner = OTHER, availability: str = "AVAILABLE") -> None:
        self.claim = owner.event("MILL")
        event = owned(new_event("MILL", AVAILABILITY_ID, availability, "Events", "Availability"), owner.epoch)
        self.last = {OWNER_ID: self.claim, AVAILABILITY_ID: event}
        self.written: list[AssetEvent] = []
        self.claimed_ends: list[AssetEvent] = []  # claims that tell how the owner has ended
        self.failures: list[OpenFactoryError] = []  # of the next writes

    def last_events(self, asset_uuids: Collection[str]) -> dict[str, list[AssetEvent]]:
        return {"MILL": list(self.last.values())} if "MILL" in asset_uuids else {}

    def publish(self, event: AssetEvent) -> Receipt:
        if self.failures:
            return Receipt(0, lambda *_: True, event, error=self.failures.pop())
        claim = owner_in({OWNER_ID: event}) if event.id == OWNER_ID else None
        (self.written if claim is None or claim.ended is None else self.claimed_ends).append(event)
        if counts(event, owner_in(self.last)):
            self.last[event.id] = event
        return Receipt(0, lambda *_: True, event, position=len(self.written))


@contextmanager
def watching(asset: Asset, presence: Presence) -> Iterator[Liveness]:
    """Yield the liveness that watches an asset; it waits before its first look."""
    liveness = Liveness(presence, asset.last_events, asset.publish, timeout=PATIENCE)
    liveness.note("MILL", asset.claim)
    try:
        yield liveness
    finally:
        presence.permit(math.inf)
        liveness.close(60)


def look(presence: Presence, times: int) -> None:
    """Let the presence be looked at so often, and wait until that is over."""
    presence.permit(times)
    presence.wait()


def test_an_owner_that_has_ended_is_unavailable_with_the_reason() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    with watching(asset, presence) as liveness:
        look(presence, 1)
        assert len(presence.forgotten) == 1
        look(presence, 3)
    [event] = asset.written
    assert (event.id, event.value, event.type, event.tag) == ("avail", UNAVAILABLE, "Events", "Availability")
    seen = time.strftime("%H:%M:%S", time.localtime(0))
    assert event.attributes is not None
    assert event.attributes["owner_ended"] == f"process 4711 on host m3 ended without a word, last seen {seen}"
    assert liveness.counters == {"ended_owners": 1}
    [claim] = asset.claimed_ends
    owner = owner_in({OWNER_ID: claim})
    assert owner == msgspec.structs.replace(OTHER, ended=event.attributes["owner_ended"])


def test_an_owner_that_is_silent_for_long_enough_is_unavailable() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.SILENT
    with watching(asset, presence):
        look(presence, TOO_FEW)
        assert asset.written == []
        look(presence, ENOUGH)
    [event] = asset.written
    assert event.attributes is not None
    assert "process 4711 on host m3 is silent" in event.attributes["owner_ended"]
    assert presence.forgotten == []  # it may go on


@pytest.mark.parametrize("sight", [Sight.LIVES, Sight.UNKNOWN])
def test_silence_must_be_in_one_piece(sight: Sight) -> None:
    asset, presence = Asset(), Presence()
    with watching(asset, presence):
        for _ in range(4):
            presence.sight = Sight.SILENT
            look(presence, TOO_FEW)
            presence.sight = sight
            look(presence, 1)
        assert asset.written == []


def test_nobody_has_ended_while_nothing_can_be_seen() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.UNKNOWN
    with watching(asset, presence):
        look(presence, 30)
        assert asset.written == []


def test_a_process_that_was_frozen_itself_does_not_take_others_for_ended() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.SILENT
    with watching(asset, presence):
        look(presence, 1)
        time.sleep(5 * PATIENCE)  # in which this process does not run
        look(presence, 2)
        assert asset.written == []


def test_a_process_whose_end_was_written_and_that_goes_on_can_end_again() -> None:
    asset, presence = Asset(), Presence()
    with watching(asset, presence) as liveness:
        presence.sight = Sight.ENDED
        look(presence, 1)
        assert len(asset.written) == 1
        presence.sight = Sight.LIVES
        look(presence, 2)
        again = msgspec.structs.replace(OTHER, epoch=11, supersedes=10)
        asset.publish(again.event("MILL"))
        asset.publish(owned(new_event("MILL", "avail", "AVAILABLE", "Events", "Availability"), 11))
        liveness.note("MILL", again.event("MILL"))
        presence.sight = Sight.ENDED
        look(presence, 1)
    assert [event.value for event in asset.written if event.id == "avail"] == [UNAVAILABLE, "AVAILABLE", UNAVAILABLE]


@pytest.mark.parametrize(
    "asset",
    [
        Asset(availability=UNAVAILABLE),
        Asset(msgspec.structs.replace(OTHER, observable=False)),
        Asset(msgspec.structs.replace(OTHER, instance="this")),
    ],
    ids=["already unavailable", "nobody can see whether it lives", "this process"],
)
def test_nothing_is_written_of_such_an_asset(asset: Asset) -> None:
    presence = Presence()
    presence.sight = Sight.ENDED
    with watching(asset, presence) as liveness:
        liveness.start()
        look(presence, 5)
    assert asset.written == []


def test_an_owner_that_was_silent_before_it_was_available_can_end_later() -> None:
    asset, presence = Asset(availability=UNAVAILABLE), Presence()
    presence.sight = Sight.SILENT
    with watching(asset, presence):
        look(presence, 3 * ENOUGH)
        assert asset.written == []
        presence.sight = Sight.LIVES
        look(presence, 2)
        asset.publish(owned(new_event("MILL", "avail", "AVAILABLE", "Events", "Availability"), OTHER.epoch))
        presence.sight = Sight.SILENT
        look(presence, ENOUGH)
    assert [event.value for event in asset.written] == ["AVAILABLE", UNAVAILABLE]


def test_a_new_claim_is_a_sign_of_life() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.SILENT
    with watching(asset, presence) as liveness:
        for epoch in range(20, 25):
            look(presence, TOO_FEW)
            liveness.note("MILL", msgspec.structs.replace(OTHER, epoch=epoch).event("MILL"))
        assert asset.written == []


def test_a_claim_that_is_noted_again_is_no_sign_of_life() -> None:
    """The assets of a file are noted with each end, and an asset whenever it is opened."""
    asset, presence = Asset(), Presence()
    presence.sight = Sight.SILENT
    with watching(asset, presence) as liveness:
        for _ in range(2 * ENOUGH):
            look(presence, 1)
            liveness.note("MILL", asset.claim)
        assert len(asset.written) == 1


def test_a_claim_that_comes_while_an_end_is_written_is_watched() -> None:
    asset, presence = Asset(), Presence()
    again = msgspec.structs.replace(OTHER, epoch=11, supersedes=10)
    presence.sight = Sight.SILENT
    with watching(asset, presence) as liveness:
        publish = asset.publish

        def publish_and_claim(event: AssetEvent) -> Receipt:
            receipt = publish(event)
            if event.attributes == asset.written[0].attributes:
                publish(again.event("MILL"))
                publish(owned(new_event("MILL", "avail", "AVAILABLE", "Events", "Availability"), 11))
                liveness.note("MILL", again.event("MILL"))
            return receipt

        liveness._ends._publish = publish_and_claim
        look(presence, 2 * ENOUGH)
    assert [event.value for event in asset.written if event.id == "avail"] == [UNAVAILABLE, "AVAILABLE", UNAVAILABLE]


def test_an_end_that_waits_to_be_written_is_announced_and_not_queued_again() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    published: list[AssetEvent] = []
    announced: list[AssetEvent] = []
    receipts: list[Receipt] = []

    def publish(event: AssetEvent) -> Receipt:
        published.append(event)
        receipts.append(Receipt(0, lambda receipt, _: receipt.settled, event))
        return receipts[-1]

    with watching(asset, presence) as liveness:
        liveness._ends._publish, liveness._ends._announce = publish, announced.append
        look(presence, 5)
        assert [event.id for event in published] == [AVAILABILITY_ID, OWNER_ID]
        assert announced == [published[0]] * 5  # the engine delivers it once to each subscription
        receipts[0].position = 1
        look(presence, 1)
        assert liveness.counters == {"ended_owners": 1}


def test_an_end_for_which_the_queue_has_no_room_is_announced() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    announced: list[AssetEvent] = []

    def refuse(_: AssetEvent) -> Receipt:
        raise DeliveryTimeout("The queue is full. Wait.", pending=1)

    with watching(asset, presence) as liveness:
        liveness._ends._publish, liveness._ends._announce = refuse, announced.append
        look(presence, 1)
        assert [(event.id, event.value) for event in announced] == [(AVAILABILITY_ID, UNAVAILABLE)]
        liveness._ends._publish = asset.publish
        look(presence, 1)
        assert liveness.counters == {"ended_owners": 1}


def test_an_end_that_was_refused_is_written_also_if_the_process_goes_on() -> None:
    """Those who heard it hear then that the app is available again."""
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    has_room = threading.Event()

    def publish(event: AssetEvent) -> Receipt:
        if not has_room.is_set():
            raise DeliveryTimeout("The queue is full. Wait.", pending=1)
        return asset.publish(event)

    with watching(asset, presence) as liveness:
        liveness._ends._publish = publish
        look(presence, 1)
        presence.sight = Sight.LIVES
        has_room.set()
        look(presence, 1)
        assert [event.value for event in asset.written] == [UNAVAILABLE]
        assert len(asset.claimed_ends) == 1


def test_an_end_whose_claim_is_refused_is_written_whole() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    refusals = [DeliveryTimeout("The queue is full. Wait.", pending=1)]

    def publish(event: AssetEvent) -> Receipt:
        if event.id == OWNER_ID and refusals:
            raise refusals.pop()
        return asset.publish(event)

    with watching(asset, presence) as liveness:
        liveness._ends._publish = publish
        look(presence, 2)
        assert liveness.counters == {"ended_owners": 1}
        assert len(asset.claimed_ends) == 1
        assert [event.value for event in asset.written] == [UNAVAILABLE]  # and not once more


def test_an_end_that_is_written_between_two_looks_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    receipts: list[Receipt] = []

    def publish(event: AssetEvent) -> Receipt:
        receipts.append(Receipt(0, lambda receipt, _: receipt.settled, event))
        return receipts[-1]

    with watching(asset, presence) as liveness:
        liveness._ends._publish = publish
        look(presence, 1)
        for receipt in receipts:
            assert receipt.event is not None
            receipt.position = asset.publish(receipt.event).position
        look(presence, 1)
        assert liveness.counters == {"ended_owners": 1}
    assert caplog.text.count("MILL is UNAVAILABLE") == 1


def test_claims_are_read_again_when_more_assets_are_watched() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    claims: list[AssetEvent] = []
    liveness = Liveness(presence, asset.last_events, asset.publish, lambda: claims, timeout=PATIENCE)
    liveness.start()
    look(presence, 2)
    assert asset.written == []
    claims.append(asset.claim)
    liveness.read_claims()
    look(presence, 2)
    assert len(asset.written) == 1
    presence.permit(math.inf)
    liveness.close(60)


def test_an_end_that_was_not_written_is_written_again(caplog: pytest.LogCaptureFixture) -> None:
    asset, presence = Asset(), Presence()
    failures = [DeliveryError("The disk is full. Make room."), DeliveryError("The disk is full. Make room.")]
    asset.failures = [*failures]
    presence.sight = Sight.ENDED
    with watching(asset, presence) as liveness:
        look(presence, 2)
        assert len(presence.forgotten) == 1
    assert all(error.told for error in failures)  # the engine's `close` does not raise them
    assert [event.value for event in asset.written] == [UNAVAILABLE]
    assert liveness.counters == {"ended_owners": 1}
    assert caplog.text.count("MILL is UNAVAILABLE") == 1


def test_nothing_is_written_of_an_asset_that_another_process_has_taken_over() -> None:
    asset, presence = Asset(), Presence()
    presence.sight = Sight.ENDED
    newer = msgspec.structs.replace(OTHER, instance="newer", epoch=11, supersedes=10, observable=False)
    asset.publish(newer.event("MILL"))
    with watching(asset, presence):
        look(presence, 5)
    assert [event.id for event in asset.written] == [OWNER_ID]


def test_looking_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    asset, presence = Asset(), Presence()
    errors = [EngineUnavailableError("The file is away. Wait.", address="x"), RuntimeError("odd")]

    def last_events(asset_uuids: Collection[str]) -> dict[str, list[AssetEvent]]:
        if errors:
            raise errors.pop(0)
        return asset.last_events(asset_uuids)

    presence.sight = Sight.ENDED
    with watching(asset, presence) as liveness:
        liveness._ends._last_events = last_events
        look(presence, 3)
    assert len(asset.written) == 1
    assert caplog.text.count("The owners of assets cannot be looked at now") == 2


def test_claims_are_written_again_before_the_log_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEWAL_SECONDS", 0.0)
    asset, presence = Asset(), Presence()
    with watching(asset, presence) as liveness:
        liveness.claims["DRILL"] = own = msgspec.structs.replace(OTHER, instance="this")
        look(presence, 2)
        assert len(asset.written) == 2
    assert (asset.written[0].asset_uuid, asset.written[0].value) == ("DRILL", own.event("DRILL").value)


@pytest.mark.parametrize(("sight", "lives"), [(Sight.LIVES, True), (Sight.SILENT, True), (Sight.ENDED, False)])
def test_an_owner_lives_until_it_has_ended(sight: Sight, lives: bool) -> None:
    presence = Presence()
    presence.sight = sight
    liveness = Liveness(presence, Asset().last_events, Asset().publish)
    assert liveness.lives("MILL", OTHER) is lives
    assert not liveness.lives("MILL", msgspec.structs.replace(OTHER, ended="stopped"))


def test_an_owner_of_this_process_lives_while_its_app_does() -> None:
    liveness = Liveness(Presence(), Asset().last_events, Asset().publish)
    own = msgspec.structs.replace(OTHER, instance="this")
    assert not liveness.lives("MILL", own)
    liveness.claims["MILL"] = own
    assert liveness.lives("MILL", own)


@pytest.mark.parametrize(("sight", "lives"), [(Sight.LIVES, True), (Sight.SILENT, False), (Sight.UNKNOWN, False)])
def test_where_an_end_is_seen_late_a_start_waits_for_it(sight: Sight, lives: bool) -> None:
    presence = Presence()
    presence.sight, presence.lag = sight, 0.1
    begun = time.monotonic()
    assert Liveness(presence, Asset().last_events, Asset().publish).lives("MILL", OTHER) is lives
    assert time.monotonic() - begun >= 0.1


class TestFiles:
    """Two processes that share a file, here as two objects: a lock belongs to the object that has opened the file."""

    def test_a_process_lives_while_it_gives_signs(self, tmp_path: Path) -> None:
        one, two = FilePresence(tmp_path / "owners", 15), FilePresence(tmp_path / "owners", 15)
        one.join()
        assert list(two.others()) == [one.instance]
        assert two.look([one.instance]) == {one.instance: Sight.LIVES}
        assert two.look([one.instance]) == {one.instance: Sight.SILENT}
        one.beat()
        assert two.look([one.instance]) == {one.instance: Sight.LIVES}
        assert two.last_seen(one.instance) == pytest.approx(time.time(), abs=60)
        one.close()
        assert two.look([one.instance]) == {one.instance: Sight.ENDED}
        assert list(two.others()) == []

    def test_a_tool_that_looks_takes_no_sign_from_the_thread_that_looks_again_and_again(self, tmp_path: Path) -> None:
        one, two = FilePresence(tmp_path / "owners", 15), FilePresence(tmp_path / "owners", 15)
        one.join()
        assert two.look([one.instance]) == {one.instance: Sight.LIVES}
        one.beat()
        assert two.peek([one.instance]) == two.peek([one.instance]) == {one.instance: Sight.LIVES}
        assert two.look([one.instance]) == {one.instance: Sight.LIVES}
        assert two.look([one.instance]) == {one.instance: Sight.SILENT}
        one.close()

    def test_threads_that_join_at_once_join_once(self, tmp_path: Path) -> None:
        for number in range(20):
            one = FilePresence(tmp_path / f"owners-{number}", 15)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _, presence=one: presence.join(), range(8)))
            assert one.observable
            assert [file.name for file in (tmp_path / f"owners-{number}").iterdir()] == [one.instance]
            one.close()

    def test_a_beat_without_a_file_leaves_the_descriptors_of_others_alone(self, tmp_path: Path) -> None:
        one = FilePresence(tmp_path / "owners", 15)
        one.join()
        (tmp_path / "owners" / one.instance).unlink()
        (tmp_path / "owners").rmdir()
        (tmp_path / "owners").write_text("no folder")
        one.beat()
        with open(tmp_path / "other", "w+b") as other:  # gets the number that was free
            one.beat()
            other.write(b"x")
            other.flush()
            assert (tmp_path / "other").read_bytes() == b"x"
        one.close()

    def test_what_a_killed_process_leaves_behind_is_removed(self, tmp_path: Path) -> None:
        folder = tmp_path / "owners"
        folder.mkdir()
        (folder / "killed").write_text("7 1.0")
        two = FilePresence(folder, 15)
        assert two.look(["killed"]) == {"killed": Sight.ENDED}
        two.forget("killed")
        assert list(folder.iterdir()) == []

    def test_a_file_that_somebody_removes_comes_back(self, tmp_path: Path) -> None:
        one, two = FilePresence(tmp_path / "owners", 15), FilePresence(tmp_path / "owners", 15)
        one.join()
        (tmp_path / "owners" / one.instance).unlink()
        assert two.look([one.instance]) == {one.instance: Sight.ENDED}
        one.beat()
        assert two.look([one.instance]) == {one.instance: Sight.LIVES}
        one.close()

    def test_a_process_that_may_not_create_its_file_says_that_nobody_can_notice_its_end(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "owners").write_text("no folder")
        one = FilePresence(tmp_path / "owners", 15)
        one.join()
        one.join()
        one.beat()
        assert not one.observable
        assert caplog.text.count("so nobody can notice its end. Give this user and the group") == 1
        one.close()

    def test_a_folder_that_somebody_removes_comes_back(self, tmp_path: Path) -> None:
        one, two = FilePresence(tmp_path / "owners", 15), FilePresence(tmp_path / "owners", 15)
        one.join()
        (tmp_path / "owners" / one.instance).unlink()
        (tmp_path / "owners").rmdir()
        one.beat()
        assert two.look([one.instance]) == {one.instance: Sight.LIVES}
        one.close()


def test_a_process_that_runs_is_known_by_its_start() -> None:
    start = process_identity.start_of(os.getpid())
    assert start is not None
    assert process_identity.is_running(process_identity.machine(), os.getpid(), start)
    assert process_identity.is_running(process_identity.machine(), os.getpid(), start - 1) is False
    assert process_identity.is_running("elsewhere", os.getpid(), start) is None
    assert process_identity.is_running(process_identity.machine(), os.getpid(), None) is None


def test_a_process_that_this_user_may_not_look_at_is_not_known_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_identity, "_fields_of", lambda _pid: None)  # as with hidepid
    assert process_identity.is_running(process_identity.machine(), os.getpid(), 1) is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_identity.is_running(process_identity.machine(), ended.pid, 1) is False


def test_no_process_is_seen_on_a_machine_without_a_boot_id(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two such machines could not be told apart: the numbers of their namespaces may be the same.
    monkeypatch.setattr(process_identity, "boot_id", lambda: "")
    monkeypatch.setattr(process_identity, "machine", process_identity.machine.__wrapped__)  # without its cache
    start = process_identity.start_of(os.getpid())
    assert process_identity.machine() == ""
    assert process_identity.is_running(process_identity.machine(), os.getpid(), start) is None


def test_a_process_that_has_ended_and_is_not_waited_for_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as zombie:
        assert zombie.stdout is not None
        start = process_identity.start_of(zombie.pid) or 1
        zombie.stdout.read()
        deadline = time.monotonic() + 60
        while process_identity.is_running(process_identity.machine(), zombie.pid, start):
            assert time.monotonic() < deadline


@pytest.mark.parametrize("text", ["0", "0.5", "-1", "nan", "inf", "ten", "4000"])
def test_a_time_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVENESS_TIMEOUT", text)
    with pytest.raises(ConfigurationError, match=r"LIVENESS_TIMEOUT=.* is not a number of seconds from 1 to 3600"):
        liveness_timeout()
