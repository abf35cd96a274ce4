"""What docs/many_machines.md shows of the services is what they do."""

from __future__ import annotations

import json
import re

from distributions import ROOT
from openfactory.fanout.forwarder_metrics import ForwarderCollector
from openfactory.fanout.router import AssetRouterApp

PAGE = (ROOT / "docs" / "many_machines.md").read_text(encoding="utf-8")


def test_the_answer_of_the_router_is_that_of_the_page() -> None:
    listed = re.findall(r"^NATS_CLUSTER_(\w+)=(.+)$", PAGE, re.MULTILINE)
    clusters = {name: servers.split(",") for name, servers in listed}
    [(path, answer)] = re.findall(r"^\$ curl http://router:8002(\S+)\n(.+)$", PAGE, re.MULTILINE)
    router = AssetRouterApp(None, clusters=clusters, test_mode=True)
    assert router.test_client().get(path).json == json.loads(answer)
    router.shutdown()


def test_the_metrics_of_the_page_are_those_of_a_forwarder() -> None:
    collected = ForwarderCollector("FORWARDER", []).collect()
    names = {f"{one.name}_total" if one.type == "counter" else one.name for one in collected}
    listed = set(re.findall(r"^\| `(asset_forwarder_\w+)`", PAGE, re.MULTILINE))
    assert listed
    assert listed <= names
