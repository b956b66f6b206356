"""A home of its own for every test, one lake for all of them, and a Redis where there is one."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.features import registry
from pipelines.features.registry import load_definitions
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import connect, transaction
from tests.feature_store.tables import SQL_TYPES, Fill, insert


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """An open warehouse; tests fill its feature tables."""
    settings = Settings(home=tmp_path_factory.mktemp("lake"))  # pyright: ignore
    with connect(settings=settings) as con:
        yield con


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current home: empty, with the embedded online store."""
    for name in ("CARDLINE_ONLINE_STORE", "CARDLINE_REDIS_URL", "CARDLINE_SERVE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CARDLINE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `feature_repo/` to change, which counts from here on."""
    copy = tmp_path / "feature_repo"
    shutil.copytree(registry.FEATURE_REPO, copy)
    monkeypatch.setattr(registry, "FEATURE_REPO", copy)
    return copy


@pytest.fixture
def fill(home: Path, lake: duckdb.DuckDBPyConnection) -> Fill:
    """`fill(view=rows, …)`: feature tables anew, holding `rows` (a key, times and any features).

    Views that are not named are emptied; features that a row leaves out are null.
    """

    def _fill(**views: list[dict[str, Any]]) -> None:
        with transaction(lake):
            for name, view in load_definitions().views.items():
                kinds = {view.key: "STRING", **view.features}
                columns = ", ".join(f"{column} {SQL_TYPES[kind]}" for column, kind in kinds.items())
                lake.execute(
                    f"create or replace table features.{name} "
                    f"({columns}, event_timestamp timestamp, created_timestamp timestamp)"
                )
                insert(lake, name, views.get(name, []))

    return _fill


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of this test run, without persistence."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server on this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"redis-server did not answer on port {port}")


@pytest.fixture(params=["sqlite", "redis"])
def online_store(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The home with either online store, empty."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        monkeypatch.setenv("CARDLINE_ONLINE_STORE", "redis")
        monkeypatch.setenv("CARDLINE_REDIS_URL", url)
        get_settings.cache_clear()
        import redis

        host, port = url.split(":")
        redis.Redis(host=host, port=int(port)).flushall()
    return request.param


@pytest.fixture
def publish_all(lake: duckdb.DuckDBPyConnection) -> Callable[..., Any]:
    """`publish` of the shared lake into the current home."""
    from pipelines.features.publish import publish

    return lambda **options: publish(con=lake, **options)
