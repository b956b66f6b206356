"""Feast's Redis online store, one packed row per key, in which an older never replaces a newer.

Stock Feast compares event times in the client, between a read and a write, and drops a correction
of the same event time. Here one script in the server compares (event time, known time) and writes
the rows or leaves them. A view is one field, `cardline:<view>`, of the entity's hash, and what was
pushed another. One Redis, not a cluster.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from typing import Any

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _redis_key_prefix
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.redis import (
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    _versioned_fv_name,
)
from pydantic import ConfigDict
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected

from pipelines.errors import CardlineError
from pipelines.features.encoding import (
    KEY_VERSION,
    VERSION_BYTES,
    OnlineRows,
    as_messages,
    chunks,
)
from pipelines.features.guarded import GuardedWrites
from pipelines.features.pushes import VIEWS, Change, joined
from pipelines.features.reading import StoredRows, StoreUnavailable, ViewRead
from pipelines.features.round_trips import RoundTrips, packed

_ROWS_PER_PIPELINE = 1_000
_ROWS_PER_SCRIPT = 200

# KEYS: the entities. ARGV: the field, whether to write whatever is there, the seconds to live (0 is
# for good), then a packed row for each. Rows begin with their version: digits of equal length, so
# comparing them as text is the order of time.
_WRITE_IF_NEWER = f"""
local written = 0
for at, key in ipairs(KEYS) do
    local row = ARGV[at + 3]
    local current = ARGV[2] == '0' and redis.call('HGET', key, ARGV[1])
    if not current or string.sub(current, 1, {VERSION_BYTES}) <= string.sub(row, 1, {VERSION_BYTES})
    then
        redis.call('HSET', key, ARGV[1], row)
        written = written + 1
    end
    if ARGV[3] ~= '0' then redis.call('EXPIRE', key, ARGV[3]) end
end
return written
"""

# KEYS: the entity. ARGV: the field, what it holds ('' for nothing), what it is to hold, the seconds
# to live (0 is for good).
_WRITE_IF_SAME = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[4]) end
return 1
"""


def _unavailable(error: Exception, seconds: float = 0.0) -> StoreUnavailable:
    """Names the setting, never its value: that may hold a password."""
    if isinstance(error, TimeoutError):
        return StoreUnavailable(
            f"the Redis of CARDLINE_REDIS_URL did not answer within {round(seconds, 2):g} s"
        )
    if isinstance(error, ResponseError | AuthenticationError):
        # Redis' own words, which hold nothing of what it was told.
        return StoreUnavailable(
            f"the Redis of CARDLINE_REDIS_URL refuses ({error}): look at its password and options"
        )
    return StoreUnavailable(
        "the Redis of CARDLINE_REDIS_URL cannot be reached or used now "
        f"({type(error).__name__}): start it, or set CARDLINE_REDIS_URL (`ssl=true` only where it "
        "speaks TLS)"
    )


@contextmanager
def _told() -> Iterator[None]:
    """Redis' own errors as one that says what to do."""
    try:
        yield
    except RedisError as error:
        raise _unavailable(error) from error
    except TypeError as error:
        name = str(error).partition("unexpected keyword argument ")[2]
        if not name:
            raise
        raise CardlineError(f"CARDLINE_REDIS_URL has an option that is none: {name}") from error


class GuardedOnlineStoreConfig(RedisOnlineStoreConfig):
    """Redis' options; those of other stores in the same block are passed over."""

    model_config = ConfigDict(extra="ignore")

    type: str = "pipelines.features.redis_store.GuardedOnlineStore"  # pyright: ignore


class GuardedOnlineStore(GuardedWrites, RedisOnlineStore):
    """Redis, one hash per entity."""

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """As `online_write_batch`: Feast's asynchronous writer would pass by the guard."""
        self.online_write_batch(config, table, data, progress)

    @_told()
    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """Feast's way out: event time and messages per key, in order."""
        client: Any = self._get_client(_options(config))
        fields = _fields(config, table, has_pushes=self.reads_pushes)
        with client.pipeline(transaction=False) as pipe:
            for key in entity_keys:
                pipe.hmget(serialize_entity_key(key, KEY_VERSION) + config.project.encode(), fields)
            found = [joined(table, *answer) for answer in pipe.execute()]
        return [as_messages(table, data, requested_features) for data in found]

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """As `online_read`."""
        return self.online_read(config, table, entity_keys, requested_features)

    # Feast's own ways around `online_read` read a field per feature.
    _read_features_per_fv = OnlineStore._read_features_per_fv
    _read_features_per_fv_async = OnlineStore._read_features_per_fv_async

    @_told()
    def write_rows(
        self, config: RepoConfig, table: FeatureView, rows: OnlineRows, is_forced: bool = False
    ) -> int:
        """As `GuardedWrites.write_rows`."""
        client: Any = self._get_client(_options(config))
        head = [_field(config, table), int(is_forced), _options(config).key_ttl_seconds or 0]
        project = config.project.encode()
        digest = client.script_load(_WRITE_IF_NEWER)
        written = 0
        for batch in chunks(len(rows), 10 * _ROWS_PER_SCRIPT):
            with client.pipeline(transaction=False) as pipe:
                for part in chunks(len(batch), _ROWS_PER_SCRIPT):
                    at = slice(batch.start + part.start, batch.start + part.stop)
                    keys = [key + project for key in rows.keys[at]]
                    pipe.evalsha(digest, len(keys), *keys, *head, *rows.values[at])
                written += sum(pipe.execute())
        return written

    @_told()
    def delete_keys(self, config: RepoConfig, table: FeatureView, keys: list[bytes]) -> None:
        """Forget the rows of these serialised entity keys."""
        project = config.project.encode()
        self._delete_fields(config, [key + project for key in keys], [_field(config, table)])

    @_told()
    def clear(self, config: RepoConfig, table: FeatureView) -> None:
        """Forget every row of a view, its mark included, but what was pushed."""
        self._delete_view(config, table, [_field(config, table)])

    @_told()
    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Forget every row of a view and its mark; other views of the same entity stay."""
        self._delete_view(config, table, _fields(config, table))

    def _delete_view(self, config: RepoConfig, table: FeatureView, fields: list[bytes]) -> None:
        client: Any = self._get_client(_options(config))
        client.hdel(_marks_key(config), _versioned_fv_name(table, config))
        keys = list(client.scan_iter(_pattern(config, table), count=1_000))
        self._delete_fields(config, keys, fields)

    def _delete_fields(self, config: RepoConfig, keys: list[bytes], fields: list[bytes]) -> None:
        client: Any = self._get_client(_options(config))
        for part in chunks(len(keys), _ROWS_PER_PIPELINE):
            with client.pipeline(transaction=False) as pipe:
                for key in keys[part.start : part.stop]:
                    pipe.hdel(key, *fields)
                pipe.execute()

    @_told()
    def read_mark(self, config: RepoConfig, table: FeatureView) -> str | None:
        """What `write_mark` last kept for a view."""
        client: Any = self._get_client(_options(config))
        value = client.hget(_marks_key(config), _versioned_fv_name(table, config))
        return None if value is None else value.decode()

    @_told()
    def write_mark(self, config: RepoConfig, table: FeatureView, mark: str) -> None:
        """Keep how far a view has been materialised, in the same Redis."""
        client: Any = self._get_client(_options(config))
        client.hset(_marks_key(config), _versioned_fv_name(table, config), mark)


def reader(config: RepoConfig) -> "RedisReader":
    """The reader of the Redis that `CARDLINE_REDIS_URL` names; it connects at the first read."""
    return RedisReader(config)


class _Client:
    """A connection that is made at its first use."""

    def __init__(self, config: RepoConfig) -> None:
        self._config = config
        self._project = config.project.encode()
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        self._opened = self._opened or _connected(self._config)
        return self._opened

    async def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None


class RedisReader(_Client):
    """Reads packed rows over one connection, all that a request needs in one round trip."""

    def __init__(self, config: RepoConfig) -> None:
        super().__init__(config)
        self._of_view = cache(self._names)
        self._trips: RoundTrips | None = None
        self._opening = asyncio.Lock()

    async def __call__(
        self, asked: Sequence[tuple[ViewRead, Sequence[bytes]]], seconds: float
    ) -> list[StoredRows]:
        """What is stored of each view and its keys. Raises `StoreUnavailable`."""
        commands: list[bytes] = []
        views: list[str] = []
        for view, keys in asked:
            name, fields = self._of_view(view)
            views.append(name)
            commands += [packed(b"HMGET", key + self._project, *fields) for key in keys]
        if not views:
            return []
        until = asyncio.get_running_loop().time() + seconds
        try:
            answers, marks = await self._answers(commands, views, until)
        except (RedisError, OSError) as error:
            raise _unavailable(error, seconds) from error
        stored: list[StoredRows] = []
        at = 0
        for (view, keys), mark in zip(asked, marks, strict=True):
            found = (joined(view.table, *answer) for answer in answers[at : at + len(keys)])
            values = zip(keys, found, strict=True)
            rows = {key: value for key, value in values if value is not None}
            at += len(keys)
            stored.append(StoredRows(None if mark is None else mark.decode(), rows))
        return stored

    async def close(self) -> None:
        """As `_Client.close`."""
        if self._trips is not None:
            await self._trips.close()
        await super().close()

    def _names(self, view: ViewRead) -> tuple[str, list[bytes]]:
        return _versioned_fv_name(view.table, self._config), _fields(self._config, view.table)

    async def _answers(
        self, commands: list[bytes], views: list[str], until: float
    ) -> tuple[list[Any], list[Any]]:
        trips = self._trips
        if trips is not None and not trips.is_over:
            # Where it fails once more on a new connection: that of a Redis that was restarted is
            # gone.
            with suppress(Disconnected):
                return await trips.ask(commands, views, until)
        return await (await self._open(until)).ask(commands, views, until)

    async def _open(self, until: float) -> RoundTrips:
        async with asyncio.timeout_at(until), self._opening:
            if self._trips is None or self._trips.is_over:
                if self._trips is not None:
                    await self._trips.close()
                connection = self._client.connection_pool.make_connection()
                try:
                    await connection.connect()
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                self._trips = RoundTrips(connection, _marks_key(self._config).encode())
            return self._trips


def pusher(config: RepoConfig) -> "RedisPusher":
    """Writes what is pushed to the Redis of `CARDLINE_REDIS_URL`."""
    return RedisPusher(config)


class RedisPusher(_Client):
    """Changes pushed rows; where another push came between reading and writing, once more."""

    async def __call__(self, table: Any, changes: Mapping[bytes, Change], seconds: float) -> int:
        """As `Pusher`."""
        changed = 0
        left = dict(changes)
        try:
            # Cut off in the middle of an answer, the client drops the connection: what comes late
            # is never taken for the answer to another request.
            async with asyncio.timeout(seconds):
                while left:
                    done = await self._push(_pushed_field(self._config, table), left)
                    changed += sum(done.values())
                    left = {key: change for key, change in left.items() if key not in done}
        except (RedisError, OSError) as error:
            raise _unavailable(error, seconds) from error
        return changed

    async def _push(self, field: bytes, changes: Mapping[bytes, Change]) -> dict[bytes, bool]:
        """Whether a row became another, by key; without those that somebody else changed."""
        async with self._client.pipeline(transaction=False) as pipe:
            for key in changes:
                pipe.hget(key + self._project, field)
            stored = dict(zip(changes, await pipe.execute(), strict=True))
        rows = {key: change(stored[key]) for key, change in changes.items()}
        done = {key: False for key in changes if rows[key] == stored[key]}
        others = [key for key in changes if key not in done]
        life = _options(self._config).key_ttl_seconds or 0
        async with self._client.pipeline(transaction=False) as pipe:
            for key in others:
                arguments = [field, stored[key] or b"", rows[key], life]
                pipe.eval(_WRITE_IF_SAME, 1, key + self._project, *arguments)
            answers = await pipe.execute()
        is_written = zip(others, answers, strict=True)
        return done | {key: True for key, is_mine in is_written if is_mine}


def _connected(config: RepoConfig) -> Any:
    nodes, options = GuardedOnlineStore._parse_connection_string(_options(config).connection_string)
    # Once more on a new connection: those of a Redis that was restarted are gone.
    retry = Retry(NoBackoff(), 1)
    return Redis(host=nodes[0]["host"], port=int(nodes[0]["port"]), retry=retry, **options)


def _options(config: RepoConfig) -> Any:
    return config.online_store


def _field(config: RepoConfig, table: FeatureView) -> bytes:
    return f"cardline:{_versioned_fv_name(table, config)}".encode()


def _pushed_field(config: RepoConfig, table: FeatureView) -> bytes:
    return f"cardline_pushed:{_versioned_fv_name(table, config)}".encode()


def _fields(config: RepoConfig, table: Any, *, has_pushes: bool = True) -> list[bytes]:
    """The fields of a view in an entity's hash: the batches' row, and what was pushed beside it."""
    if table.name not in VIEWS or not has_pushes:
        return [_field(config, table)]
    return [_field(config, table), _pushed_field(config, table)]


def _marks_key(config: RepoConfig) -> str:
    return f"cardline:packed_marks:{config.project}"


def _pattern(config: RepoConfig, table: FeatureView) -> bytes:
    return _redis_key_prefix(table.join_keys) + b"*" + config.project.encode()
