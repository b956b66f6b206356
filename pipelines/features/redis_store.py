"""Feast's Redis online store in which an older row never replaces a newer one.

Stock Feast compares event times in the client, between a read and a write, and drops a correction
of the same event time. Here one script in the server compares (event time, known time), kept in the
entity's hash as `__version__:<view>`, and writes the row or leaves it. One Redis, not a cluster.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.helpers import _mmh3, _redis_key_prefix
from feast.infra.online_stores.redis import (
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    _versioned_fv_name,
)
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ConfigDict
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pipelines.features.encoding import VERSION_FIELD, OnlineRows, chunks, encode_messages
from pipelines.features.reading import StoredRows, StoreUnavailable, ViewRead

_ROWS_PER_PIPELINE = 1_000

# KEYS: the entity. ARGV: the version field and value, then the other fields and values.
# Versions are digits of equal length, so comparing them as text is the order of time.
_WRITE_IF_NEWER = """
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current and current > ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""


def _unavailable(error: Exception) -> StoreUnavailable:
    """Names the setting, never its value: that may hold a password."""
    return StoreUnavailable(
        "the Redis of CARDLINE_REDIS_URL cannot be reached or used now "
        f"({type(error).__name__}): start it, or set CARDLINE_REDIS_URL"
    )


@contextmanager
def _told() -> Iterator[None]:
    """Redis' own errors as one that says what to do."""
    try:
        yield
    except RedisError as error:
        raise _unavailable(error) from error


class GuardedOnlineStoreConfig(RedisOnlineStoreConfig):
    """Redis' options; those of other stores in the same block are passed over."""

    model_config = ConfigDict(extra="ignore")

    type: str = "pipelines.features.redis_store.GuardedOnlineStore"  # pyright: ignore


class GuardedOnlineStore(RedisOnlineStore):
    """Redis, one hash per entity."""

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's way in (push, write_to_online_store), through the same guard."""
        for rows in encode_messages(data):
            self.write_rows(config, table, rows)
        if progress:
            progress(len(data))

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
    def _read_hash_fields(self, config: RepoConfig, commands: Any) -> Any:
        return super()._read_hash_fields(config, commands)

    @_told()
    def write_rows(
        self, config: RepoConfig, table: FeatureView, rows: OnlineRows, is_forced: bool = False
    ) -> int:
        """Write the rows that are not older than what is there, or all if `is_forced`.

        Returns how many were written.
        """
        if is_forced:
            self.delete_keys(config, table, rows.keys)
        client: Any = self._get_client(_options(config))
        key_ttl = _options(config).key_ttl_seconds
        view = _versioned_fv_name(table, config)
        project = config.project.encode()
        version_field = _version_field(view)
        time_field = f"_ts:{view}".encode()
        fields = [(_mmh3(f"{view}:{name}"), values) for name, values in rows.columns.items()]
        times = {us: _timestamp(us) for us in set(rows.event_us)}
        versions = rows.versions()
        digest = client.script_load(_WRITE_IF_NEWER)
        written = 0
        for part in chunks(len(rows), _ROWS_PER_PIPELINE):
            with client.pipeline(transaction=False) as pipe:
                for index in part:
                    arguments: list[Any] = [version_field, versions[index]]
                    arguments += [time_field, times[rows.event_us[index]]]
                    for field, values in fields:
                        arguments += [field, values[index]]
                    key = rows.keys[index] + project
                    pipe.evalsha(digest, 1, key, *arguments)
                    if key_ttl:
                        pipe.expire(key, key_ttl)
                results = pipe.execute()
            written += sum(results[:: 2 if key_ttl else 1])
        return written

    @_told()
    def delete_keys(self, config: RepoConfig, table: FeatureView, keys: list[bytes]) -> None:
        """Forget the rows of these serialised entity keys."""
        client: Any = self._get_client(_options(config))
        view = _versioned_fv_name(table, config)
        fields = [_version_field(view), f"_ts:{view}".encode()]
        fields += [_mmh3(f"{view}:{feature.name}") for feature in table.features]
        for part in chunks(len(keys), _ROWS_PER_PIPELINE):
            with client.pipeline(transaction=False) as pipe:
                for key in keys[part.start : part.stop]:
                    pipe.hdel(key + config.project.encode(), *fields)
                pipe.execute()

    def clear(self, config: RepoConfig, table: FeatureView) -> None:
        """Forget every row of a view, its mark included."""
        self.delete_table(config, table)

    @_told()
    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """As Feast does, and the versions and the mark with it.

        A version left behind would turn away the rows of a view that is made anew.
        """
        client: Any = self._get_client(_options(config))
        view = _versioned_fv_name(table, config)
        keys = list(client.scan_iter(_pattern(config, table), count=1_000))
        super().delete_table(config, table)
        for part in chunks(len(keys), _ROWS_PER_PIPELINE):
            with client.pipeline(transaction=False) as pipe:
                for key in keys[part.start : part.stop]:
                    pipe.hdel(key, _version_field(view))
                pipe.execute()
        client.hdel(_marks_key(config), view)

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


class RedisReader:
    """Reads stored bytes, all that a request needs in one round trip."""

    def __init__(self, config: RepoConfig) -> None:
        self._config = config
        self._project = config.project.encode()
        self._client: Any = None
        self._fields = lru_cache(maxsize=1_024)(self._fields_of)

    async def __call__(
        self, asked: Sequence[tuple[ViewRead, Sequence[bytes]]], seconds: float
    ) -> list[StoredRows]:
        """What is stored of each view and its keys. Raises `StoreUnavailable`."""
        try:
            # Cut off in the middle of an answer, the client drops the connection: what comes late
            # is never taken for the answer to another request.
            async with asyncio.timeout(seconds):
                answers = await self._ask(asked)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the Redis of CARDLINE_REDIS_URL did not answer within {seconds:g} s"
            ) from error
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        marks = answers.pop()
        stored = []
        at = 0
        for (_, keys), mark in zip(asked, marks, strict=True):
            rows = {
                key: (_time_text(values[0]), values[1:])
                for key, values in zip(keys, answers[at : at + len(keys)], strict=True)
                if values[0] is not None
            }
            at += len(keys)
            stored.append(StoredRows(None if mark is None else mark.decode(), rows))
        return stored

    async def close(self) -> None:
        """Close the connections; the next read opens new ones."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _ask(self, asked: Sequence[tuple[ViewRead, Sequence[bytes]]]) -> list[Any]:
        """One answer per view and key, then the marks.

        The marks come last: were the store emptied in between, they would be missing, too.
        """
        client = self._client or self._connect()
        views = []
        async with client.pipeline(transaction=False) as pipe:
            for view, keys in asked:
                name, fields = self._fields(view)
                views.append(name)
                for key in keys:
                    pipe.hmget(key + self._project, fields)
            pipe.hmget(_marks_key(self._config), views)
            return await pipe.execute()

    def _connect(self) -> Any:
        nodes, options = GuardedOnlineStore._parse_connection_string(
            _options(self._config).connection_string
        )
        # Once more on a new connection: those of a Redis that was restarted are gone.
        retry = Retry(NoBackoff(), 1)
        self._client = Redis(
            host=nodes[0]["host"], port=int(nodes[0]["port"]), retry=retry, **options
        )
        return self._client

    def _fields_of(self, view: ViewRead) -> tuple[str, list[bytes]]:
        name = _versioned_fv_name(view.table, self._config)
        fields = [f"_ts:{name}".encode()]
        return name, fields + [_mmh3(f"{name}:{feature}") for feature in view.features]


@lru_cache(maxsize=4_096)
def _time_text(data: bytes) -> str:
    return Timestamp.FromString(data).ToJsonString()


def _options(config: RepoConfig) -> Any:
    return config.online_store


def _version_field(view: str) -> bytes:
    return f"{VERSION_FIELD}:{view}".encode()


def _marks_key(config: RepoConfig) -> str:
    return f"cardline:marks:{config.project}"


def _pattern(config: RepoConfig, table: FeatureView) -> bytes:
    return _redis_key_prefix(table.join_keys) + b"*" + config.project.encode()


def _timestamp(us: int) -> bytes:
    stamp = Timestamp()
    stamp.FromMicroseconds(us)
    return stamp.SerializeToString()
