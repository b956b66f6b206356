"""Answers of the server as they go over the wire."""

import asyncio
import socket
import time
from typing import Any, ClassVar

import pytest
import uvicorn

from pipelines.serving import protocol
from pipelines.serving.protocol import WholeAnswers


class Recorder(WholeAnswers):
    """Keeps what is handed to the transport, write by write."""

    written: ClassVar[list[bytes]] = []

    def connection_made(self, transport: Any) -> None:
        write, together = transport.write, transport.writelines

        class Noted:
            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                Recorder.written.append(data)
                write(data)

            def writelines(self, parts: list[bytes]) -> None:
                Recorder.written.append(b"".join(parts))
                together(parts)

        noted: Any = Noted()
        super().connection_made(noted)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says hello; to `/twice` in two parts with a pause between them."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/twice":
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"lo"})
    else:
        await send({"type": "http.response.body", "body": b"hello"})


async def answers(*requests: bytes, head: bytes | None = None) -> bytes:
    """What the server sends until it closes the connection: to `requests`, or to what `head` is."""
    Recorder.written = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, http=Recorder, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        heads = [b"%b HTTP/1.1\r\nhost: x\r\n" % request for request in requests]
        whole = b"\r\n".join(heads) + b"connection: close\r\n\r\n"
        writer.write(whole if head is None else head)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        server.should_exit = True
        await running
    return answer


def test_head_and_body_go_out_together() -> None:
    answer = asyncio.run(answers(b"GET /", b"GET /"))
    assert answer.count(b"hello") == 2
    assert [part.count(b"HTTP/1.1 200") for part in Recorder.written] == [1, 1]
    assert all(b"hello" in part for part in Recorder.written)


def test_what_comes_in_parts_and_what_has_no_body_waits_for_nothing() -> None:
    answer = asyncio.run(answers(b"HEAD /", b"GET /twice"))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.endswith(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")


def test_a_head_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    started = time.monotonic()
    assert asyncio.run(answers(head=b"")) == b""
    assert asyncio.run(answers(head=b"GET / HTTP/1.1\r\nhost: x")) == b""
    after_another = b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP"
    assert asyncio.run(answers(head=after_another)).count(b"hello") == 1
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("head", [b"GET /%b HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx: %b\r\n"])
def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    large, fits = b"x" * (protocol.MAX_HEAD_BYTES + 1), b"x" * 1_000
    end = b"connection: close\r\n\r\n"
    assert b"HTTP/1.1 400" in asyncio.run(answers(head=head % large + end))
    assert b"HTTP/1.1 200" in asyncio.run(answers(head=head % fits + end))
