"""The tutorial does what it says: every block of it is run, by somebody at three terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distributions import ROOT
from needed import running
from servers import KafkaBroker

Follow = Callable[..., None]

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def installs(block: Any) -> bool:
    return bool(block.section == "Install")


@pytest.mark.thorough
def test_the_installation_gives_the_command(follow: Follow, installing: dict[str, str]) -> None:
    follow(TUTORIAL, installs, **installing)


def test_every_other_block_runs_in_the_order_of_the_page(follow: Follow) -> None:
    follow(TUTORIAL, lambda block: not installs(block))


@pytest.mark.thorough  # tests/kafka/test_apps_on_kafka.py runs the examples there
def test_every_other_block_runs_on_a_kafka_too(follow: Follow) -> None:
    with running(KafkaBroker()) as broker:
        url = f"kafka://{broker.bootstrap_servers}"
        page = TUTORIAL.replace("sqlite:///…/factory.db", url)
        follow(page, lambda block: not installs(block), KSQLDB_URL=url)
