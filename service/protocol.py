"""Bytes that are no HTTP at all to an answer that still carries the research-use header."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from models.disclaimer import HEADER_NAME, HEADER_VALUE

# How every answer begins.
HEAD = b"HTTP/1.1 "
BAD_REQUEST = (
    "HTTP/1.1 400 Bad Request\r\n"
    f"{HEADER_NAME}: {HEADER_VALUE}\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 0\r\n"
    "Connection: close\r\n\r\n"
).encode()


class ResearchProtocol(H11Protocol):
    """The server's protocol; what it cannot read never reaches the application, so the header is added here.

    A connection on which no request's head arrives in time is closed: the server itself would wait for ever.
    """

    head_timeout_s = 30.0
    _head_timer: asyncio.TimerHandle | None = None
    _waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server's own
        """Begins to wait for a request.

        Parts of an answer may be written apart. Without `TCP_NODELAY` the system holds the second back until the
        other side has confirmed the first, which it may do 40 ms later; asyncio sets it for sockets of its own alone.
        """
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(_Joining(transport, self.loop))  # type: ignore[arg-type]  # passes all else on
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the wait."""
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()

    def on_response_complete(self) -> None:
        """Begins to wait for the next request."""
        super().on_response_complete()
        self._await_head()

    def _await_head(self) -> None:
        # One timer serves many requests: setting it anew for each would leave as many cancelled ones behind.
        self._waits_since = self.loop.time()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        left_s = self._waits_since + self.head_timeout_s - self.loop.time()
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if left_s > 0:
            self._head_timer = self.loop.call_later(left_s, self._give_up)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is not HTTP, without the server's own words on it."""
        del msg
        self.transport.write(BAD_REQUEST)
        self.transport.close()


class _Joining:
    """A connection that sends an answer's head with what follows it at once: one call of the system, not two.

    Args:
        transport: the connection.
        loop: what follows later than in its present turn does not hold the head up.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._head = transport, loop, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends bytes, or holds them back for a moment if they are a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Sends what was held back, and closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
