"""One connection to Redis whose round trips are shared.

What is asked for while a round trip is under way shares the next one: the more requests there are
at a time, the less each costs. redis-py opens the connection; from then on answers go straight from
the socket to who waits for them, which streams would make dearer than Redis itself.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from hiredis import Reader, pack_command
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError

_COMMANDS_PER_TRIP = 2_000


@dataclass(frozen=True, eq=False)
class _Asked:
    """One read that waits: its commands, the marks it wants, and where the answers go."""

    commands: list[bytes]
    views: list[str]
    answer: "asyncio.Future[tuple[list[Any], list[Any]]]"


class RoundTrips(asyncio.Protocol):
    """Takes over a `connection` of redis-py; `marks` is the hash that holds the views' marks."""

    def __init__(self, connection: Any, marks: bytes) -> None:
        self.is_over = False
        self._connection = connection
        self._marks = marks
        self._transport = connection._writer.transport
        self._transport.set_protocol(self)
        self._replies = Reader(replyError=_refusal)
        self._waiting: deque[_Asked] = deque()
        self._those: list[_Asked] = []
        self._views: list[str] = []
        self._answers: list[Any] = []
        self._awaited = 0

    async def ask(
        self, commands: list[bytes], views: list[str], until: float
    ) -> tuple[list[Any], list[Any]]:
        """One answer per command, and the marks of `views`, by `until` (the loop's time).

        Raises `TimeoutError`, and `RedisError` where Redis refuses one of these commands or the
        connection is lost.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(commands, views, loop.create_future())
        timer = loop.call_at(until, self._give_up, asked)
        self._waiting.append(asked)
        if not self._those:
            self._set_out()
        try:
            return await asked.answer
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Close the connection."""
        self.is_over = True
        await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        if not self._those:
            # What nobody asked for is never taken for the answer to somebody.
            self._abort()
            return
        self._replies.feed(data)
        while len(self._answers) < self._awaited:
            answer = self._replies.gets()
            if answer is False:
                return
            self._answers.append(answer)
        self._arrive()
        self._set_out()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio's."""
        self.is_over = True
        for asked in (*self._those, *self._waiting):
            if not asked.answer.done():
                asked.answer.set_exception(Disconnected("the connection was closed"))
        self._those = []
        self._waiting.clear()

    def _give_up(self, asked: _Asked) -> None:
        if not asked.answer.done():
            asked.answer.set_exception(TimeoutError())
        if asked in self._those:
            # Redis, or the way to it, hangs: a new connection may not.
            self._abort()

    def _abort(self) -> None:
        self.is_over = True
        self._transport.abort()

    def _set_out(self) -> None:
        """The marks come last: were the store emptied in between, they would be missing, too."""
        commands: list[bytes] = []
        # Who asks for little is not to wait for all that others ask for.
        while self._waiting and len(commands) < _COMMANDS_PER_TRIP:
            asked = self._waiting.popleft()
            if not asked.answer.done():
                self._those.append(asked)
                commands += asked.commands
        if self._those:
            self._views = list(dict.fromkeys(v for asked in self._those for v in asked.views))
            commands.append(packed(b"HMGET", self._marks, *self._views))
            self._awaited = len(commands)
            self._transport.write(b"".join(commands))

    def _arrive(self) -> None:
        """To each its own answers; an error among them is nobody else's."""
        those, self._those = self._those, []
        answers, self._answers = self._answers, []
        marks = answers.pop()
        is_refused = isinstance(marks, RedisError)
        of_view = {} if is_refused else dict(zip(self._views, marks, strict=True))
        at = 0
        for asked in those:
            own = answers[at : at + len(asked.commands)]
            at += len(own)
            errors = [marks] if is_refused else [a for a in own if isinstance(a, RedisError)]
            if asked.answer.done():
                continue
            if errors:
                asked.answer.set_exception(errors[0])
            else:
                asked.answer.set_result((own, [of_view[view] for view in asked.views]))


def packed(*command: bytes | str) -> bytes:
    """A command as it goes over the wire."""
    parts: Any = command
    return pack_command(parts)


def _refusal(text: str) -> RedisError:
    return ResponseError(text)
