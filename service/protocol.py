"""Bytes that are no HTTP at all to an answer that still carries the research-use header."""

from __future__ import annotations

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
    """The server's protocol; what it cannot read never reaches the application, so the header is added here."""

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is not HTTP, without the server's own words on it."""
        del msg
        self.transport.write(BAD_REQUEST)
        self.transport.close()
