"""What docs/many_machines.md shows of the services is what they do."""

from __future__ import annotations

import json
import re

from distributions import ROOT
from openfactory.fanout.router import AssetRouterApp

PAGE = (ROOT / "docs" / "many_machines.md").read_text(encoding="utf-8")


def test_the_answer_of_the_router_is_that_of_the_page() -> None:
    listed = re.findall(r"^NATS_CLUSTER_(\w+)=(.+)$", PAGE, re.MULTILINE)
    clusters = {name: servers.split(",") for name, servers in listed}
    [(path, answer)] = re.findall(r"^\$ curl http://router:8002(\S+)\n(.+)$", PAGE, re.MULTILINE)
    router = AssetRouterApp(None, clusters=clusters, test_mode=True)
    assert router.test_client().get(path).json == json.loads(answer)
    router.shutdown()
