"""A connection of a client: its received bytes, and the times that reading and sending may take."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import IO, Any

from openfactory.flaskapp.http.request_head import HeadParser, RequestHead

__all__ = ["Connection", "ConnectionLost"]

_BUFFER_BYTES = 65_536

# The longest wait of one call of the system, in seconds. A thread that waits for the next request looks up this often.
_TICK_SECONDS = 1.0


class ConnectionLost(ConnectionError):
    """The client has disconnected, or does not read or send any more."""


class Connection:
    """An open connection, which one thread at a time reads and writes.

    Args:
        accepted: the socket.
        address: address of the client, as `accept` returns it.
        silence_timeout: seconds after which a client that neither sends nor reads is lost.

    Attributes:
        socket: the socket.
        host, port: address of the client.
        unread: received bytes that are not read yet.
        head: the head of the request that is to be answered.
        thread: identifier of the thread that runs the request.
        deadline: time of `time.monotonic` at which the server's loop closes the connection.
        answered_last: whether the last response is sent, and the connection only waits until the client has read it.
        drained_at: time at which the connection is closed even if the client still sends.
        sends_on: whether the client may still send the body of the last request.
        taken: whether a route has taken over the socket.
    """

    def __init__(self, accepted: socket.socket, address: Any, silence_timeout: float) -> None:
        self.socket = accepted
        self.host = str(address[0]).removeprefix("::ffff:")  # a port for IPv6 shows IPv4 addresses like this
        self.port: int = address[1]
        self.unread = bytearray()
        self.head: RequestHead | None = None
        self.thread = 0
        self.deadline = 0.0
        self.answered_last = False
        self.drained_at = 0.0
        self.sends_on = False
        self.taken = False
        self._parser = HeadParser()
        self._silence_timeout = silence_timeout
        self._tick = min(_TICK_SECONDS, silence_timeout)
        with suppress(OSError):  # the client has already disconnected
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.settimeout(self._tick)

    # The head of a request

    @property
    def in_head(self) -> bool:
        """Whether a part of a head has arrived."""
        return self._parser.begun

    def receive_head(self) -> bool:
        """Receive once, and return whether `head` is complete.

        Raises:
            RequestError: the head is not valid.
            TimeoutError: nothing arrives for the moment.
            ConnectionLost: the client has disconnected.
        """
        try:
            data = self.socket.recv(_BUFFER_BYTES)
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        if not data:
            self._parser.end()
            raise ConnectionLost("the client disconnected")
        return self._feed(data)

    def next_head(self) -> bool:
        """Return whether `head` is complete by bytes that have arrived with the last request.

        Raises:
            RequestError: the head is not valid.
        """
        if not self.unread:
            self.head = None
            return False
        data = bytes(self.unread)
        self.unread.clear()
        return self._feed(data)

    def _feed(self, data: bytes) -> bool:
        self.head, rest = self._parser.feed(data)
        if rest:
            self.unread += rest
        return self.head is not None

    # The body of a request

    def read(self, most: int) -> bytes:
        """Read up to so many bytes, and at least one.

        Raises:
            ConnectionLost: the client has disconnected, or has sent nothing for too long.
        """
        if not self.unread:
            if most >= _BUFFER_BYTES:
                return self._receive(most)
            self.unread += self._receive(_BUFFER_BYTES)
        data = bytes(self.unread[:most])
        del self.unread[:most]
        return data

    def skip(self, size: int) -> None:
        """Drop unread bytes that have arrived."""
        del self.unread[:size]

    def read_line(self, longest: int) -> bytes:
        """Read a line with its end; a line that is too long comes without its end.

        Raises:
            ConnectionLost: the client has disconnected, or has sent nothing for too long.
        """
        while (end := self.unread.find(b"\n", 0, longest)) < 0 and len(self.unread) < longest:
            self.unread += self._receive(_BUFFER_BYTES)
        return self.read(end + 1 or longest)

    def has_received(self, size: int) -> bool:
        """Return whether so many unread bytes have arrived, without waiting."""
        missing = size - len(self.unread)
        if 0 < missing <= _BUFFER_BYTES:
            self.socket.settimeout(0)
            with suppress(OSError):
                self.unread += self.socket.recv(missing)
            self.socket.settimeout(self._tick)
        return len(self.unread) >= size

    def _receive(self, most: int) -> bytes:
        deadline = time.monotonic() + self._silence_timeout
        while True:
            try:
                data = self.socket.recv(most)
            except TimeoutError as error:
                if time.monotonic() >= deadline:
                    raise ConnectionLost("timed out") from error
            except OSError as error:
                raise ConnectionLost(str(error)) from error
            else:
                if not data:
                    raise ConnectionLost("the client disconnected in the middle of its request")
                return data

    # The response

    def send(self, data: bytes) -> None:
        """Send data, for as long as the client reads some of it.

        Raises:
            ConnectionLost: the client has disconnected, or has read nothing for too long.
        """
        rest = memoryview(data)
        deadline = 0.0
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
                deadline = 0.0
            except TimeoutError as error:
                deadline = self._check_silence(deadline, error)
            except OSError as error:
                raise ConnectionLost(str(error)) from error

    def send_file(self, file: IO[bytes], size: int) -> int:
        """Send up to so many bytes of a file, without a copy in memory where the system can do that.

        Returns:
            The number of bytes that the file had.

        Raises:
            ConnectionLost: the client has disconnected, or has read nothing for too long.
        """
        self.socket.settimeout(self._silence_timeout)
        try:
            return self.socket.sendfile(file, file.tell(), size)
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        finally:
            self.socket.settimeout(self._tick)

    def _check_silence(self, deadline: float, error: TimeoutError) -> float:
        """Return until when the client must read something, after it has read nothing for a while."""
        now = time.monotonic()
        deadline = deadline or now - self._tick + self._silence_timeout
        if now >= deadline:
            raise ConnectionLost("timed out") from error
        return deadline

    def send_at_once(self, data: bytes) -> None:
        """Send data that fits into the system's buffer, without waiting; a client that does not read misses it."""
        self.socket.settimeout(0)
        with suppress(OSError):
            self.socket.send(data)
        self.socket.settimeout(self._tick)

    # The end

    def read_away(self, seconds: float) -> bool:
        """Read and ignore data for some seconds, or once if they are 0, and return whether the client may send more."""
        end = time.monotonic() + seconds
        try:
            while self.socket.recv(_BUFFER_BYTES):
                if time.monotonic() >= end:
                    return True
        except TimeoutError:
            return True
        except OSError:
            pass
        return False

    def take(self) -> socket.socket:
        """Return the socket for a route, to which the connection belongs from now on."""
        if not self.taken:
            self.taken = True
            self.socket.settimeout(None)
        return self.socket

    def shut_down(self, how: int) -> None:
        """Shut down the connection for reading, for writing, or for both, as `socket.shutdown` does."""
        with suppress(OSError):  # the client has already disconnected
            self.socket.shutdown(how)

    def close(self) -> None:
        """Close the connection, and end the calls that wait for it."""
        self.shut_down(socket.SHUT_RDWR)
        self.socket.close()
