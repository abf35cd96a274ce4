"""What an app with web pages promises of the files of its storage, on whatever framework."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar
from uuid import uuid4

import pytest

from openfactory.testing import AppClient
from running_apps import Answer
from web_site import Framework

__all__ = ["FilePromises"]

RunApp = Callable[..., AppClient[Any]]
Ask = Callable[..., Answer]

TEXT = "".join(f"{number:08}\n" for number in range(20_000))  # more than one chunk, and each part differs
SIZE = len(TEXT)


class FilePromises:
    framework: ClassVar[Framework]

    @pytest.fixture
    def app(self, run_app: RunApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
        """An app that sends the files of its storage, which has a store in a folder and a store in memory."""
        stores = {
            "disk": {"type": "local", "local_path": str(tmp_path), "mount_point": "/nowhere/data"},
            "memory": {"type": "fsspec", "url": f"memory://{uuid4().hex}"},
        }
        monkeypatch.setenv("STORAGE", json.dumps(stores))
        app = run_app(self.framework.panel_class).app
        for store in stores:
            app.storage.write_text(f"{store}/reels/film.txt", TEXT)
        return app

    @pytest.fixture
    def ask(self, app: Any) -> Ask:
        """Request the film, or another file: `ask(Range="bytes=0-9")`."""

        def ask(path: str = "disk/reels/film.txt", method: str = "GET", **headers: str) -> Answer:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return self.framework.ask(app, method, f"/files/{path}", headers=named)

        return ask

    @pytest.mark.parametrize("store", ["disk", "memory"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_a_whole_file(self, ask: Ask, store: str, method: str) -> None:
        answer = ask(f"{store}/reels/film.txt", method)
        assert (answer.status, answer.text) == (200, "" if method == "HEAD" else TEXT)
        assert answer.headers["content-length"] == str(SIZE)
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-disposition"] == 'inline; filename="film.txt"'

    @pytest.mark.parametrize("store", ["disk", "memory"])
    def test_a_part(self, ask: Ask, store: str) -> None:
        for wanted, first, last in (
            ("bytes=0-0", 0, 0),
            ("bytes=100-199", 100, 199),
            ("bytes=65530-140000", 65530, 140000),
            (f"bytes=100-{SIZE + 1}", 100, SIZE - 1),
            ("Bytes = 179990-", 179990, SIZE - 1),
            ("bytes=-7", SIZE - 7, SIZE - 1),
            (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
        ):
            answer = ask(f"{store}/reels/film.txt", Range=wanted)
            assert (answer.status, answer.text) == (206, TEXT[first : last + 1])
            assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
            assert answer.headers["content-length"] == str(last - first + 1)

    def test_a_part_that_the_file_does_not_have(self, ask: Ask) -> None:
        for wanted in (f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0"):
            answer = ask(Range=wanted)
            assert (answer.status, answer.text, answer.headers["content-range"]) == (416, "", f"bytes */{SIZE}")

    def test_a_range_that_is_no_single_part_is_ignored(self, ask: Ask) -> None:
        wrong = ("bytes=9-3", "bytes=", "bytes=-", "lines=0-1", "bytes=0x1-2", "bytes=1-2-3", f"bytes=0-{'9' * 5000}")
        for wanted in (*wrong, "bytes=0-1,5-6"):
            answer = ask(Range=wanted)
            assert (answer.status, answer.headers["content-length"]) == (200, str(SIZE))

    def test_only_a_get_request_gets_a_part(self, ask: Ask) -> None:
        assert [ask(method=method, Range="bytes=0-9").status for method in ("HEAD", "POST")] == [200, 200]

    def test_an_empty_file(self, app: Any, ask: Ask) -> None:
        app.storage.write_bytes("disk/empty", b"")
        answer = ask("disk/empty", Range="bytes=0-9")
        assert (answer.status, answer.text, answer.headers["content-length"]) == (200, "", "0")
        assert answer.headers["content-type"] == "application/octet-stream"

    def test_a_file_that_the_client_has_is_not_sent_again(self, app: Any, ask: Ask) -> None:
        have = ask().headers
        old = "Mon, 01 Jan 2001 00:00:00 GMT"
        for headers, status in (
            ({"If_None_Match": have["etag"]}, 304),
            ({"If_None_Match": f'"other", W/{have["etag"]}', "If_Modified_Since": old}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_None_Match": '"other"', "If_Modified_Since": have["last-modified"]}, 200),
            ({"If_Modified_Since": have["last-modified"]}, 304),
            ({"If_Modified_Since": old}, 200),
            ({"If_Modified_Since": "yesterday"}, 200),
            ({"If_Match": have["etag"]}, 200),
            ({"If_Match": '"other"'}, 412),
            ({"If_Unmodified_Since": old}, 412),
            ({"If_None_Match": have["etag"], "Range": "bytes=0-9"}, 304),
        ):
            answer = ask(**headers)
            assert (answer.status, answer.text) == (status, TEXT if status == 200 else "")
            assert answer.headers["etag"] == have["etag"]
        app.storage.write_text("disk/reels/film.txt", TEXT + "the end")
        assert ask(If_None_Match=have["etag"]).text == TEXT + "the end"

    def test_a_download_goes_on_only_if_the_file_is_the_same(self, ask: Ask) -> None:
        have = ask().headers
        for validator, status in (
            (have["etag"], 206),
            (have["last-modified"], 206),
            ('"other"', 200),
            (f"W/{have['etag']}", 200),
            ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
            ("yesterday", 200),
        ):
            assert ask(Range="bytes=9-", If_Range=validator).status == status

    @pytest.mark.parametrize("store", ["disk", "memory", "nowhere"])
    def test_what_is_no_file_of_the_storage_is_not_found(self, ask: Ask, store: str) -> None:
        for path in ("none.txt", "reels", "", "reels/film.txt/x", "%2e%2e/%2e%2e/secret", "x" * 5000, "a%00b"):
            assert ask(f"{store}/{path}").status == 404

    @pytest.mark.parametrize(
        ("name", "disposition"),
        [
            ("", 'attachment; filename="film.txt"'),
            ("A+film.txt", 'attachment; filename="A film.txt"'),
            ("Spr%C3%BCnge%22.txt", "attachment; filename*=UTF-8''Spr%C3%BCnge%22.txt"),
        ],
    )
    def test_a_download_has_a_name_and_a_type(self, app: Any, name: str, disposition: str) -> None:
        answer = self.framework.ask(app, "GET", f"/download/disk/reels/film.txt?as={name}&type=text/x-part")
        assert answer.headers["content-disposition"] == disposition
        assert answer.headers["content-type"] == "text/x-part"

    def test_the_type_of_a_download_is_that_of_the_stored_file(self, app: Any) -> None:
        answer = self.framework.ask(app, "GET", "/download/disk/reels/film.txt?as=film.html")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"

    def test_a_compressed_file_is_sent_as_it_is(self, app: Any, ask: Ask) -> None:
        app.storage.write_bytes("disk/log.txt.gz", b"packed")
        answer = ask("disk/log.txt.gz")
        assert (answer.text, answer.headers["content-type"]) == ("packed", "application/octet-stream")
        assert "content-encoding" not in answer.headers

    def test_the_file_is_closed_after_each_request(self, app: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[IO[bytes]] = []
        open_file = app.storage.open

        def remember(*names: str) -> IO[bytes]:
            opened.append(open_file(*names))
            return opened[-1]

        monkeypatch.setattr(app.storage, "open", remember)
        for headers in ({}, {"Range": "bytes=0-9"}, {"Range": f"bytes={SIZE}-"}, {"If_None_Match": "*"}):
            ask(**headers)
        ask(method="HEAD")
        assert [file.closed for file in opened] == [True] * 5
