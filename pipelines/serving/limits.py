"""How many requests a client may make."""

import math
import time
from collections.abc import Callable


class RateLimit:
    """`per_second` requests of each client, a second's worth at once; 0 is no limit."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> int:
        """Count a request of `client`: 0 if it may pass, else the seconds until one may.

        Clients have been authenticated, so there are no more of them than tokens.
        """
        if not self._per_second:
            return 0
        now = self._clock()
        left, at = self._left.get(client, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - at) * self._per_second)
        if left < 1:
            self._left[client] = (left, now)
            return math.ceil((1 - left) / self._per_second)
        self._left[client] = (left - 1, now)
        return 0
