"""HTTP as uvicorn speaks it, with each answer handed to the system in one piece.

uvicorn writes the head of an answer, then its body. Each write wakes the client, which for a small
answer costs both sides more than the rest of the way.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol on a transport that puts two writes of one turn together."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """As asyncio's."""
        pairs: Any = _Pairs(transport)
        super().connection_made(pairs)


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
