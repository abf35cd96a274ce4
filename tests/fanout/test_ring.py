"""The hash ring: it places assets as the existing routers and forwarders do."""

from __future__ import annotations

from collections import Counter

import pytest

from openfactory.exceptions import ConfigurationError
from openfactory.fanout import HashRing, clusters_from_environment, ring_of

pytestmark = pytest.mark.smoke

PLACES = {
    "DEV-UUID": ("C2", "C2"),
    "PROVER3018": ("C2", "C2"),
    "OPCUA-SENSOR-001": ("C1", "C3"),
    "app-scheduler": ("C1", "C1"),
    "testasset": ("C1", "C1"),
    "cnc": ("C2", "C2"),
}
UUIDS = [f"asset-{number}" for number in range(3_000)]


@pytest.mark.parametrize(("asset_uuid", "places"), PLACES.items())
def test_an_asset_is_where_existing_programs_place_it(asset_uuid: str, places: tuple[str, str]) -> None:
    two, three = HashRing(["C1", "C2"]), HashRing(["C3", "C1", "C2"])
    assert (two.node_of(asset_uuid), three.node_of(asset_uuid)) == places
    assert two.node_of(asset_uuid.encode()) == places[0]


def test_the_order_of_the_nodes_and_a_repetition_change_nothing() -> None:
    ring, other = HashRing(["C1", "C2"]), HashRing(["C2", "C1", "C2"])
    assert ring.nodes == other.nodes == ("C1", "C2")
    assert [ring.node_of(uuid) for uuid in UUIDS] == [other.node_of(uuid) for uuid in UUIDS]


def test_a_new_node_takes_a_share_and_moves_nothing_else() -> None:
    before, after = HashRing(["C1", "C2"]), HashRing(["C1", "C2", "C3"])
    moved = [uuid for uuid in UUIDS if before.node_of(uuid) != after.node_of(uuid)]
    assert {after.node_of(uuid) for uuid in moved} == {"C3"}
    assert 0.25 < len(moved) / len(UUIDS) < 0.42
    assert min(Counter(map(after.node_of, UUIDS)).values()) > len(UUIDS) / 5


def test_upper_case_is_another_key() -> None:
    ring = HashRing(["C1", "C2"])
    assert any(ring.node_of(uuid) != ring.node_of(uuid.upper()) for uuid in UUIDS)


@pytest.mark.parametrize(("nodes", "points"), [((), 128), (("C1",), 0)])
def test_a_ring_without_a_point_is_refused(nodes: tuple[str, ...], points: int) -> None:
    with pytest.raises(ValueError, match="Pass the name of a node"):
        HashRing(nodes, points)


def test_the_environment_names_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_CLUSTER_C1", "nats://one:4222")
    monkeypatch.setenv("NATS_CLUSTER_C2", " nats://two:4222 ,nats://three:4222,")
    monkeypatch.setenv("NATS_CLUSTER_EMPTY", " , ")
    monkeypatch.setenv("NATS_CLUSTER_", "nats://no-name:4222")
    clusters = clusters_from_environment()
    assert clusters == {"C1": ("nats://one:4222",), "C2": ("nats://two:4222", "nats://three:4222")}
    assert ring_of(clusters).node_of("OPCUA-SENSOR-001") == "C1"


def test_without_a_cluster_the_error_has_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"No NATS cluster is configured\. Set NATS_CLUSTER_<NAME>"):
        clusters_from_environment()


@pytest.mark.parametrize(("value", "sentence"), [("0", "is not above 0"), ("many", "is not a whole number")])
def test_the_number_of_points_is_checked(monkeypatch: pytest.MonkeyPatch, value: str, sentence: str) -> None:
    monkeypatch.setenv("HASH_RING_REPLICAS", value)
    with pytest.raises(ConfigurationError, match=f"HASH_RING_REPLICAS='?{value}'? {sentence}"):
        ring_of(["C1"])


def test_another_number_of_points_places_assets_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ring_of(["C1", "C2"])
    monkeypatch.setenv("HASH_RING_REPLICAS", "16")
    other = ring_of(["C1", "C2"])
    assert [other.node_of(uuid) for uuid in UUIDS] != [usual.node_of(uuid) for uuid in UUIDS]
