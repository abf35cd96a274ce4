"""The wake-up: a byte that a writer sends to each subscriber, so that it reads the log.

A wake-up carries no data: if it gets lost, the subscriber reads the log at its next poll.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.concurrency.group_access import grant_to_group

if sys.platform != "win32":
    import fcntl

__all__ = ["DatagramWake", "LocalWake", "Wake"]

# The longest path that a unix socket can have is 107 bytes on Linux, 103 elsewhere.
_LONGEST_SOCKET_PATH = 100

# A folder's time stamp has a resolution of some milliseconds, so the listing of a folder is kept only after this time.
_LISTING_SETTLED_NS = 100_000_000


class Wake(Protocol):
    """Wake-ups from the writers of a database to its subscribers."""

    def notify(self) -> None:
        """Wake every subscriber. It never waits and never raises."""

    def wait(self, timeout: float) -> None:
        """Wait for a wake-up, at most `timeout` seconds."""

    def close(self) -> None:
        """Stop sending and receiving wake-ups."""


class LocalWake:
    """Wake-ups for the subscriber of a database in memory."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def notify(self) -> None:
        self._event.set()

    def wait(self, timeout: float) -> None:
        self._event.wait(timeout)
        self._event.clear()

    def close(self) -> None:
        self._event.set()


class DatagramWake:
    """Wake-ups by datagrams for subscribers in all processes: unix sockets in a folder, or else UDP on loopback.

    Each subscriber has a file in the folder: `<pid>-<token>.sock` is its socket, `<pid>-<token>.udp` contains its port.
    The token is random, because processes of several containers can have the same process id.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener: socket.socket | None = None
        self._entry: Path | None = None
        self._peers: list[tuple[str, str]] = []
        self._listed_ns = -1
        self._senders: dict[str, socket.socket] = {}
        self._poller: select.poll | None = None
        self._folder_text = os.fspath(folder)
        self._closed = False
        self._claim = -1  # descriptor of the locked .udp file; the kernel releases the lock when the process ends
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            grant_to_group(folder)
        reset_in_forked_child(self)

    def listen(self) -> None:
        """Become a subscriber.

        Raises:
            OSError: the folder takes no file, for example because the disk is full.
        """
        if self._listener is not None:
            self._listener.close()  # of a call that failed
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        path = self._folder / f"{name}.sock"
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._listener.bind(os.fspath(path))
            grant_to_group(path)
        else:
            path = self._folder / f"{name}.udp"
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._listener.bind(("127.0.0.1", 0))
            new = path.with_suffix(".new")
            self._claim = _claim(new)
            os.write(self._claim, b"%d" % self._listener.getsockname()[1])
            new.replace(path)  # atomic, so that a writer never reads half of the port
        self._listener.setblocking(False)
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(self._listener, select.POLLIN)
        self._entry = path
        self._listed_ns = -1  # list the folder again: this entry comes last

    def wait(self, timeout: float) -> None:
        listener = self._listener
        assert listener is not None
        try:
            if self._poller is not None:
                woken = bool(self._poller.poll(timeout * 1000))
            else:
                woken = bool(select.select([listener], [], [], timeout)[0])
            while woken:
                listener.recv(16)
        except OSError:
            return  # the socket has no more wake-ups, or is closed

    def notify(self) -> None:
        if self._closed:
            return
        for kind, peer in self._subscribers():
            try:
                self._send(kind, peer)
            except BlockingIOError:
                pass  # the subscriber's queue is full of wake-ups
            except (ConnectionRefusedError, FileNotFoundError):
                Path(peer).unlink(missing_ok=True)  # left behind by a process that was killed
            except (OSError, ValueError):
                pass  # the subscriber polls

    def close(self) -> None:
        self._closed = True
        if self._entry is not None:
            self._entry.unlink(missing_ok=True)
        self._close_descriptors()

    def reset_after_fork(self) -> None:
        """Close the parent's descriptors; with them, the subscriber would seem to live after the parent has ended."""
        self._closed = True
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for sender in self._senders.values():
            sender.close()
        self._listener = None
        self._senders.clear()
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1

    def _subscribers(self) -> list[tuple[str, str]]:
        """Return the suffix and path of each subscriber's file. The folder is listed only if it has changed."""
        try:
            changed_ns = os.stat(self._folder_text).st_mtime_ns
            if changed_ns != self._listed_ns:
                paths = [path for path in self._folder.iterdir() if path.suffix in (".sock", ".udp")]
                paths.sort(key=lambda path: path == self._entry)  # this process last, so that others do not wait for it
                self._peers = [(path.suffix, os.fspath(path)) for path in paths]
                settled = time.time_ns() - changed_ns > _LISTING_SETTLED_NS
                self._listed_ns = changed_ns if settled else -1
        except OSError:
            return []
        return self._peers

    def _send(self, kind: str, peer: str) -> None:
        sender = self._senders.get(kind)
        if sender is None:
            family = socket.AF_UNIX if kind == ".sock" else socket.AF_INET
            sender = self._senders[kind] = socket.socket(family, socket.SOCK_DGRAM)
            sender.setblocking(False)
        if kind == ".sock":
            sender.sendto(b"w", peer)
            return
        with open(peer, encoding="ascii") as entry:
            if not _is_claimed(entry.fileno()):
                raise ConnectionRefusedError
            sender.sendto(b"w", ("127.0.0.1", int(entry.read())))


def _claim(path: Path) -> int:
    """Create a file and lock it until this process ends. Return its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o660)
    grant_to_group(path)
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _is_claimed(descriptor: int) -> bool:
    """Return whether the process that has created a file still runs; its id says nothing outside of its container."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
