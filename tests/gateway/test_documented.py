"""What the documentation says of nginx, done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributions import ROOT
from needed import running
from servers import NginxServer

if TYPE_CHECKING:
    from tests.gateway.conftest import AppProcess, Entrance

MIB = 1024 * 1024


def documented(page: str, app: AppProcess) -> str:
    """The lines for nginx on a page of the documentation, for an app at another port than 4000."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```nginx\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    return "".join(blocks).replace("127.0.0.1:4000", f"127.0.0.1:{app.port}")


@contextmanager
def nginx(configuration: str) -> Iterator[NginxServer]:
    with running(NginxServer([], configuration=configuration)) as server:
        yield server


def test_the_lines_for_nginx_put_an_app_behind_a_prefix(
    production_app: AppProcess, new_entrance: type[Entrance]
) -> None:
    with nginx(documented("web.md", production_app)) as gateway:
        oven = new_entrance(gateway, "localhost", "/oven")
        assert oven.ask_url(f"{oven.url.removesuffix('/')}?a=1").headers["Location"] == f"{oven.url}?a=1"
        assert oven.ask("/parts/").json["first"] == "/oven/parts/1"
        assert oven.ask("/elsewhere", tls=True).headers["Location"] == f"{oven.tls_url}parts/"
        assert "Path=/oven" in oven.ask("/visits").headers["Set-Cookie"]
        seen = oven.ask("/seen", X_Forwarded_For="203.0.113.9", X_Forwarded_Prefix="/evil").json
        assert (seen["client"], seen["prefix"]) == ("127.0.0.2", "/oven")
        assert oven.ask("/upload", "POST", bytes(2 * MIB)).json == {"bytes": 2 * MIB}
        assert oven.ask("/health/live").status == 200


def test_the_lines_for_nginx_close_what_is_for_operations(
    production_app: AppProcess, new_entrance: type[Entrance]
) -> None:
    lines = documented("web.md", production_app) + documented("security.md", production_app)
    with nginx(lines) as gateway:
        oven = new_entrance(gateway, "localhost", "/oven")
        paths = ("/", "/health/live", "/health/ready", "/metrics")
        assert [oven.ask(path).status for path in paths] == [200, 404, 404, 404]
