"""Send files of a storage to web pages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from openfactory.apps.web.stored_files import Storage, StoredFileAnswer, stored_file_answer
from openfactory.concurrency.bounded import call_on_thread

__all__ = ["StoredFileResponse", "send_stored_file"]


def send_stored_file(
    storage: Storage,
    path: str | os.PathLike[str],
    *,
    mimetype: str | None = None,
    as_attachment: bool = False,
    download_name: str | None = None,
) -> StoredFileResponse:
    """Return a response that sends a file of a storage of any type, as `FileResponse` does with a file of a folder.

    A video player or a download that continues gets the part that it asks for (`Range`, `If-Range`), and a browser that
    has the file already gets the status 304 (`ETag`, `Last-Modified`). A HEAD request gets the headers only. The file
    is read while it is sent, on threads, and closed at the end.

    A path that is not a file of the storage gets the status 404, also if it leads out of the storage. So the path may
    come from the URL.

    Args:
        storage: the storage, such as `self.storage` of the app.
        path: path of the file in the storage.
        mimetype: type of the content; by default from the name in the storage.
        as_attachment: whether a browser saves the file instead of showing it.
        download_name: name under which a browser saves the file; by default the name in the storage.
    """
    answer = partial(
        stored_file_answer,
        storage,
        path,
        mimetype=mimetype,
        as_attachment=as_attachment,
        download_name=download_name,
    )
    return StoredFileResponse(answer)


class StoredFileResponse(Response):
    """Response with a file of a storage. Headers that a route sets take precedence over those of the file.

    The file is opened, read and closed on the threads of plain routes. The pages of health have other threads, so they
    are answered if a storage hangs.

    Args:
        answer: function that opens the file, and returns the answer to a request, of which it gets the method and the
            headers.
    """

    def __init__(self, answer: Callable[[str, Mapping[str, str]], StoredFileAnswer]) -> None:
        super().__init__()
        self._answer = answer
        self.raw_headers = []  # instead of those of an empty body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the file, and send the answer to the request.

        Raises:
            HTTPException: the storage has no file at the path. The status is 404.
            OSError: the file cannot be read.
        """
        headers = {name.lower(): value for name, value in Headers(scope=scope).items()}
        opening = asyncio.create_task(run_in_threadpool(self._answer, scope["method"], headers))
        try:
            answer = await asyncio.shield(opening)
        except FileNotFoundError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND) from error
        except asyncio.CancelledError:  # the thread goes on, and may open the file later
            opening.add_done_callback(_close_unsent)
            raise
        try:
            response = StreamingResponse(answer.content, answer.status, answer.headers, background=self.background)
            names = {name for name, _ in self.raw_headers}
            response.raw_headers = [*self.raw_headers, *(pair for pair in response.raw_headers if pair[0] not in names)]
            await response(scope, receive, send)
        finally:
            await asyncio.shield(run_in_threadpool(answer.content.close))


def _close_unsent(opening: asyncio.Task[StoredFileAnswer]) -> None:
    """Close a file whose request has been cut off, on a thread, as a storage may hang there too."""
    if not opening.cancelled() and opening.exception() is None:
        call_on_thread("openfactory-close", opening.result().content.close)
