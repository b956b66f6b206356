"""Feast's registry in a PostgreSQL that the tests start, and without it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import CardlineError
from pipelines.features.materialize import materialize
from pipelines.features.registry import apply, feature_store
from pipelines.features.retrieval import online, service_names
from pipelines.settings import get_settings
from tests.feature_store.tables import DAY, START, Fill, Publish

SERVICE = "account_behaviour_v1"
FEATURE = "amount_count_30d"
PASSWORD = "registry-pass-word"


def program(name: str) -> str | None:
    """PostgreSQL's program: Debian keeps its servers' out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL of this module on loopback, which keeps nothing."""
    initdb, server = program("initdb"), program("postgres")
    if initdb is None or server is None:
        pytest.skip("there is no PostgreSQL (initdb, postgres) on this machine")
    # It refuses to run as root, and another user cannot reach pytest's own folders.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        data, secret = Path(folder) / "data", Path(folder) / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(secret, user)
        subprocess.run(
            [initdb, "--no-sync", "-A", "scram-sha-256", "-U", "cardline", "--pwfile", str(secret),
             "-D", str(data)],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [server, "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
             "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd=folder,
        )  # fmt: skip
        try:
            url = f"postgresql://cardline:{PASSWORD}@127.0.0.1:{port}/postgres"
            _wait_for(url)
            yield url
        finally:
            # Its fast stop: on SIGTERM it would wait for connections that are still open.
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def _wait_for(url: str) -> None:
    import psycopg

    for _ in range(100):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not start")


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARDLINE_REGISTRY_URL", url)
    get_settings.cache_clear()


def test_everything_works_from_it_and_the_sdk_reads_it(
    postgres: str,
    home: Path,
    fill: Fill,
    publish_all: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psycopg
    from feast import FeatureStore, RepoConfig

    use(postgres, monkeypatch)
    at = {"event_timestamp": START, "created_timestamp": START}
    fill(account_amount_features=[{"account_id": "a", FEATURE: 3, **at}])
    publish_all()
    materialize(end=START + DAY)
    assert online(SERVICE, [{"account_id": "a"}])[0][FEATURE] == 3
    assert not (home / "feast" / "registry.db").exists()
    assert not apply()
    # Another machine needs the database alone to know what can be asked for.
    sdk = FeatureStore(
        config=RepoConfig(
            project="cardline",
            provider="local",
            registry={"registry_type": "sql", "path": postgres},
            entity_key_serialization_version=3,
            online_store={"type": "remote", "path": "http://127.0.0.1:6566"},
        )
    )
    assert sorted(each.name for each in sdk.list_feature_services()) == service_names()
    # A database that was emptied is filled again by the next process.
    with psycopg.connect(postgres) as con:
        con.execute("delete from feature_services")
    from pipelines.features import registry

    registry._has_services.cache_clear()
    registry._cached_store.cache_clear()
    assert apply()
    assert len(feature_store().list_feature_services()) == len(service_names())


def test_a_database_that_is_away_is_told_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    use(f"postgresql://cardline:{PASSWORD}@127.0.0.1:{port}/postgres", monkeypatch)
    with pytest.raises(CardlineError, match="CARDLINE_REGISTRY_URL") as told:
        feature_store()
    assert PASSWORD not in str(told.value)
