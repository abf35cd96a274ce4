"""Send files of a storage to web pages."""

from __future__ import annotations

import os

from flask import Response, current_app, request
from werkzeug.exceptions import NotFound

from openfactory.apps.web.stored_files import Storage, stored_file_answer

__all__ = ["send_stored_file"]


def send_stored_file(
    storage: Storage,
    path: str | os.PathLike[str],
    *,
    mimetype: str | None = None,
    as_attachment: bool = False,
    download_name: str | None = None,
) -> Response:
    """Return a response that sends a file of a storage of any type, as Flask's `send_file` sends a file of a folder.

    A video player or a download that continues gets the part that it asks for (`Range`, `If-Range`), and a browser that
    has the file already gets the status 304 (`ETag`, `Last-Modified`). A HEAD request gets the headers only. The file
    is read while it is sent, and closed at the end.

    A path that is not a file of the storage gets the status 404, also if it leads out of the storage. So the path may
    come from the URL.

    Args:
        storage: the storage, such as `current_ofa_app().storage`.
        path: path of the file in the storage.
        mimetype: type of the content; by default from the name in the storage.
        as_attachment: whether a browser saves the file instead of showing it.
        download_name: name under which a browser saves the file; by default the name in the storage.

    Raises:
        NotFound: the storage has no file at the path. Flask answers it with the status 404.
        OSError: the file cannot be read.
    """
    try:
        answer = stored_file_answer(
            storage,
            path,
            request.method,
            {name.lower(): value for name, value in request.headers.items()},
            mimetype=mimetype,
            as_attachment=as_attachment,
            download_name=download_name,
        )
    except FileNotFoundError as error:
        raise NotFound from error
    return current_app.response_class(answer.content, answer.status, answer.headers, direct_passthrough=True)
