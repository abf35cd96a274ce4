"""Send files of a storage: parts, validators and names of a download, as RFC 9110 defines them."""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from mimetypes import guess_type
from pathlib import PurePath
from typing import IO, Any, Protocol
from urllib.parse import quote

__all__ = ["Content", "Storage", "StoredFile", "StoredFileAnswer", "stored_file_answer"]

_CHUNK = 64 * 1024

# Errors of a path that no file can have, such as a name that is too long
_IMPOSSIBLE = frozenset({errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG})

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})", re.IGNORECASE)
_ETAGS = re.compile(r'(?:W/)?"[^"]*"')
_PLAIN_NAME = re.compile(r"[\w!#$&+.^`|~ -]+", re.ASCII)


class Storage(Protocol):
    """A storage that files are sent from: a `FileBackend` of openfactory-storage, which need not be installed."""

    def info(self, path: Any, /) -> Any:
        """Return size and modification time of a file or folder."""
        ...

    def open(self, path: Any, mode: str, /) -> IO[Any]:
        """Open a file, as the builtin `open` does."""
        ...


def stored_file_answer(
    storage: Storage,
    path: str | os.PathLike[str],
    method: str,
    headers: Mapping[str, str],
    *,
    mimetype: str | None = None,
    as_attachment: bool = False,
    download_name: str | None = None,
) -> StoredFileAnswer:
    """Open a file of a storage, and return the response to a request for it. See `StoredFile.answer`.

    Raises:
        FileNotFoundError: the storage has no file at the path, or the path leads out of the storage.
        OSError: the file cannot be read.
    """
    file = StoredFile.open(storage, path)
    try:
        return file.answer(method, headers, mimetype=mimetype, as_attachment=as_attachment, download_name=download_name)
    except BaseException:
        file.file.close()
        raise


class Content:
    """The content of an open file, or a part of it, in chunks. The file is closed at the end, and by `close`.

    Args:
        file: file to read.
        start: position of the first byte.
        length: number of bytes; None for all up to the end of the file.
    """

    def __init__(self, file: IO[bytes], start: int, length: int | None) -> None:
        self._file = file
        self._start = start
        self._missing = length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._start:
            self._file.seek(self._start)
            self._start = 0
        size = _CHUNK if self._missing is None else min(_CHUNK, self._missing)
        chunk = self._file.read(size) if size else b""
        if self._missing is not None:
            if size and not chunk:
                raise OSError(f"The file has become shorter while it is sent: {self._missing} bytes are missing.")
            self._missing -= len(chunk)
        if not chunk:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._missing = 0
        self._file.close()


@dataclass(frozen=True)
class StoredFileAnswer:
    """The response to a request for a file.

    Attributes:
        status: status of the response.
        headers: headers of the response.
        content: body of the response; empty if the request or the status has no body.
    """

    status: HTTPStatus
    headers: dict[str, str]
    content: Content


@dataclass(frozen=True)
class StoredFile:
    """A file of a storage that is open for reading.

    Attributes:
        file: the open file.
        name: its name, without folders.
        size: its size in bytes; None if its storage cannot tell before the file is read.
        modified: time of the last write; None if its storage does not record it.
        etag: validator of its content; empty if its storage does not record the time.
    """

    file: IO[bytes]
    name: str
    size: int | None
    modified: datetime | None
    etag: str

    @classmethod
    def open(cls, storage: Storage, path: str | os.PathLike[str]) -> StoredFile:
        """Open a file of a storage.

        Raises:
            FileNotFoundError: the storage has no file at the path, or the path leads out of the storage.
            OSError: the file cannot be read.
        """
        try:
            # Before the file is opened: if the file is replaced in between, its new content has an old validator, and
            # the client asks for it again.
            info = storage.info(path)
            if info.is_folder:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
            file = storage.open(path, "rb")
        except (IsADirectoryError, NotADirectoryError, KeyError, ValueError) as error:  # KeyError: an unknown store
            raise _no_file(path) from error
        except OSError as error:
            if error.errno in _IMPOSSIBLE:
                raise _no_file(path) from error
            raise
        etag = ""
        if info.modified is not None:  # the path too, as an address may lead to one file today and to another tomorrow
            path_sum = zlib.crc32(os.fspath(path).encode("utf-8", "surrogatepass"))
            etag = f'"{info.modified.timestamp():.6f}-{info.size}-{path_sum:x}"'
        return cls(file, PurePath(path).name, _size_of(file), info.modified, etag)

    def answer(
        self,
        method: str,
        headers: Mapping[str, str],
        *,
        mimetype: str | None = None,
        as_attachment: bool = False,
        download_name: str | None = None,
    ) -> StoredFileAnswer:
        """Return the response to a request.

        Args:
            method: method of the request.
            headers: headers of the request, with names in lower case.
            mimetype: type of the content; by default from the name in the storage.
            as_attachment: whether a browser saves the file instead of showing it.
            download_name: name under which a browser saves the file; by default the name in the storage.
        """
        validators = {"Cache-Control": "no-cache"}
        if self.etag:
            validators["ETag"] = self.etag
        if self.modified is not None:
            validators["Last-Modified"] = format_datetime(self.modified.astimezone(UTC), usegmt=True)
        if method in ("GET", "HEAD") and (status := self._failed_condition(headers)):
            return self._without_body(status, validators)
        name = download_name or self.name
        described = {
            **validators,
            "Content-Type": mimetype or _type_of(self.name),
            "Content-Disposition": _disposition("attachment" if as_attachment else "inline", name),
        }
        if self.size is None:
            return self._whole(method, described)
        described["Accept-Ranges"] = "bytes"
        part = self._part(headers) if method == "GET" else None
        if part is None:
            return self._whole(method, {**described, "Content-Length": str(self.size)})
        if not part:
            unsatisfied = {**validators, "Content-Range": f"bytes */{self.size}", "Content-Length": "0"}
            return self._without_body(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, unsatisfied)
        described["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{self.size}"
        described["Content-Length"] = str(len(part))
        return StoredFileAnswer(HTTPStatus.PARTIAL_CONTENT, described, Content(self.file, part.start, len(part)))

    def _whole(self, method: str, headers: dict[str, str]) -> StoredFileAnswer:
        if method == "HEAD":
            return self._without_body(HTTPStatus.OK, headers)
        return StoredFileAnswer(HTTPStatus.OK, headers, Content(self.file, 0, self.size))

    def _without_body(self, status: HTTPStatus, headers: dict[str, str]) -> StoredFileAnswer:
        self.file.close()
        return StoredFileAnswer(status, headers, Content(self.file, 0, 0))

    # What the request asks for

    def _failed_condition(self, headers: Mapping[str, str]) -> HTTPStatus | None:
        """Return the status of a request whose condition is not met; None if the file is to be sent."""
        if (wanted := headers.get("if-match")) is not None:
            if wanted.strip() != "*" and self.etag not in _ETAGS.findall(wanted):
                return HTTPStatus.PRECONDITION_FAILED
        elif self._is_newer_than(headers.get("if-unmodified-since")) is True:
            return HTTPStatus.PRECONDITION_FAILED
        if (known := headers.get("if-none-match")) is not None:
            tags = [tag.removeprefix("W/") for tag in _ETAGS.findall(known)]
            return HTTPStatus.NOT_MODIFIED if known.strip() == "*" or self.etag in tags else None
        return HTTPStatus.NOT_MODIFIED if self._is_newer_than(headers.get("if-modified-since")) is False else None

    def _part(self, headers: Mapping[str, str]) -> range | None:
        """Return the bytes of a part, an empty range if the file does not have them, or None for the whole file.

        A request for several parts gets the whole file, as RFC 9110 allows.
        """
        found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
        if not self.size or found is None or not (found["first"] or found["last"]) or not self._is_same(headers):
            return None
        if not found["first"]:
            return range(max(self.size - int(found["last"]), 0), self.size)
        first, last = int(found["first"]), int(found["last"] or self.size)
        return range(first, min(last + 1, self.size)) if first <= last or not found["last"] else None

    def _is_same(self, headers: Mapping[str, str]) -> bool:
        """Return whether the file is the one of which the client has a part, by `If-Range`."""
        wanted = headers.get("if-range")
        if wanted is None or '"' in wanted:
            return wanted in (None, self.etag)
        return self.modified is not None and _date(wanted) == self._seconds()

    def _is_newer_than(self, date: str | None) -> bool | None:
        """Return whether the file was modified after a date of a header; None if one of them is not known."""
        asked, modified = _date(date or ""), self._seconds()
        return None if asked is None or modified is None else modified > asked

    def _seconds(self) -> datetime | None:
        """Return the time of the last write, in the precision of HTTP."""
        return None if self.modified is None else self.modified.replace(microsecond=0)


def _no_file(path: str | os.PathLike[str]) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "The storage has no file at this path", os.fspath(path))


def _size_of(file: IO[bytes]) -> int | None:
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    except (OSError, ValueError):  # a server that sends the file from its beginning only
        return None
    return size


def _type_of(name: str) -> str:
    guessed, encoding = guess_type(name)
    if guessed is None or encoding is not None:  # the file is sent as it is, also if it is compressed
        return "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def _disposition(kind: str, name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
