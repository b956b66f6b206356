"""The server as it is shipped, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil


@contextmanager
def serving() -> Iterator[tuple[int, psutil.Process]]:
    """`cardline serve` of the current home; its port and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "serve", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/ready", timeout=30).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None
                time.sleep(0.2)
        yield port, psutil.Process(process.pid)
        process.terminate()
        # A graceful stop: not by force, and without a failure.
        assert process.wait(timeout=30) in {0, -15}
    finally:
        process.kill()
