"""The page on apps on FastAPI does what it says: its blocks are run."""

from __future__ import annotations

from collections.abc import Callable

from distributions import ROOT
from needed import needed
from servers import free_port
from servers.fetching import program
from servers.ports import HOST

Follow = Callable[..., None]

PAGE = (ROOT / "docs" / "fastapi.md").read_text(encoding="utf-8")


def test_every_block_runs_in_the_order_of_the_page(follow: Follow) -> None:
    with needed("curl"):
        program("curl", "curl")
    port = free_port()
    page = PAGE.replace("0.0.0.0:4000", f"{HOST}:{port}").replace("localhost:4000", f"localhost:{port}")
    follow(page, lambda block: True, OPENFACTORY_HOST=HOST, PORT=str(port))
