"""HTTP as uvicorn speaks it, with each answer handed to the system in one piece, and with bounds on
the head of a request.

uvicorn writes the head of an answer, then its body. Each write wakes the client, which for a small
answer costs both sides more than the rest of the way. It waits for the head of a request for good,
and takes one of any length: connections that begin one and never end it would close the server to
everybody else.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol on a transport that puts two writes of one turn together.

    A connection on which a request has begun, or is yet to begin, and whose head is not there after
    `HEAD_SECONDS` is closed within as many more. A head above `MAX_HEAD_BYTES` is refused (400).
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """As asyncio's."""
        pairs: Any = _Pairs(transport)
        super().connection_made(pairs)
        self._begun: float | None = self.loop.time()
        self._head_bytes = 0
        self._look_again = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio's."""
        self._look_again.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """As httptools'."""
        self._begun = self.loop.time()
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """As httptools'."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As httptools'."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """As httptools'."""
        self._begun = None
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too large")

    def _look(self) -> None:
        # One timer a connection, which costs a request nothing.
        if self._begun is not None and self.loop.time() - self._begun >= HEAD_SECONDS:
            self.transport.close()
        else:
            self._look_again = self.loop.call_later(HEAD_SECONDS, self._look)


class _Pairs:
    """A transport of which a write waits for the next one, or for the end of the loop's turn."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines([held, data])
        else:
            self._held = data
            self._call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
