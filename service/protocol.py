"""Bytes that are no HTTP at all to an answer that still carries the research-use header."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from models.disclaimer import HEADER_NAME, HEADER_VALUE

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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server's own
        """Begins to wait for a request."""
        super().connection_made(transport)
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
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _give_up(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is not HTTP, without the server's own words on it."""
        del msg
        self.transport.write(BAD_REQUEST)
        self.transport.close()
