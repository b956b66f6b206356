"""What an address exposes a server to."""

import ipaddress
import socket
from functools import lru_cache

from pipelines.errors import CardlineError


@lru_cache(maxsize=32)
def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # A name may resolve to anything.


def require_free_port(host: str, port: int) -> None:
    """Raise `CardlineError` where a server could not bind; it may still be taken a moment later."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CardlineError(
            f"{host}:{port} cannot be bound ({error.strerror}): name another with --port or --host"
        ) from error
