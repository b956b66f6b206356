"""A Redis that dies, hangs or comes back empty: a clear refusal, never a wrong value."""

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from pipelines.errors import CardlineError
from pipelines.features import redis_store
from pipelines.features.encoding import encode_keys
from pipelines.features.materialize import materialize, materialized_through
from pipelines.features.reading import Plans, StoreUnavailable
from pipelines.features.registry import apply, feature_store
from pipelines.features.retrieval import online
from pipelines.serving.server import create_app
from pipelines.settings import get_settings
from tests.feature_store.tables import DAY, START, Fill, Publish

SERVICE = "account_behaviour_v1"
FEATURE = "amount_count_30d"
ACCOUNTS = 40


class OwnRedis:
    """A Redis that a test may stop and start; it keeps nothing."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(host="127.0.0.1", port=self.port)

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            try:
                self.client.ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError("redis-server did not start")

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None


@pytest.fixture
def own_redis(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server on this machine")
    server = OwnRedis(binary)
    monkeypatch.setenv("CARDLINE_ONLINE_STORE", "redis")
    monkeypatch.setenv("CARDLINE_REDIS_URL", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("CARDLINE_SERVE_DEADLINE_MS", "300")
    get_settings.cache_clear()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(own_redis: OwnRedis, fill: Fill, publish_all: Publish) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    times = {"event_timestamp": START, "created_timestamp": START}
    fill(
        account_amount_features=[
            {"account_id": f"a{i}", FEATURE: 1_000 + i, **times} for i in range(ACCOUNTS)
        ]
    )
    publish_all()
    materialize(end=START + DAY)
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("db=99", r"refuses \(DB index is out of range\)"),
        ("password=wrong", r"refuses \(AUTH"),
        ("colour=red", "has an option that is none: 'colour'"),
    ],
)
def test_options_that_redis_refuses_are_told_in_its_words(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch, options: str, says: str
) -> None:
    monkeypatch.setenv("CARDLINE_REDIS_URL", f"127.0.0.1:{own_redis.port},{options}")
    get_settings.cache_clear()
    apply()
    with pytest.raises(CardlineError, match=says):
        materialized_through("account_amount_features")


def ask(client: Any, account: int) -> Any:
    body = {"feature_service": SERVICE, "entities": {"account_id": [f"a{account}"]}}
    return client.post("/get-online-features", json=body)


def check(answer: Any, account: int) -> int:
    """The answer is right, or it is a refusal that says what to do; its status."""
    if answer.status_code == 200:
        body = answer.json()
        column = body["results"][body["metadata"]["feature_names"].index(FEATURE)]
        assert column["values"] == [1_000 + account]
        assert column["statuses"] == ["PRESENT"]
    else:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        detail = answer.json()["detail"]
        assert "CARDLINE_REDIS_URL" in detail or "run `cardline run`" in detail
    return answer.status_code


def test_it_recovers_from_a_redis_that_dies_and_comes_back_empty(
    client: Any, own_redis: OwnRedis
) -> None:
    assert check(ask(client, 1), 1) == 200
    own_redis.kill()
    assert check(ask(client, 1), 1) == 503
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    own_redis.start()
    # An emptied Redis knows nobody: that is no answer either.
    assert check(ask(client, 1), 1) == 503
    materialize(end=START + DAY)
    assert check(ask(client, 1), 1) == 200
    assert client.get("/ready").status_code == 200
    assert "cardline_store_unavailable_total 3.0" in client.get("/metrics").text


def test_under_load_no_answer_is_ever_wrong(client: Any, own_redis: OwnRedis) -> None:
    def many(worker: int) -> set[int]:
        return {check(ask(client, (worker + i) % ACCOUNTS), (worker + i) % ACCOUNTS)
                for i in range(150)}  # fmt: skip

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(many, 7 * worker) for worker in range(4)]
        own_redis.kill()
        own_redis.start()
        materialize(end=START + DAY)
        seen = set().union(*(each.result(timeout=120) for each in running))
    assert 503 in seen
    assert {check(ask(client, i), i) for i in range(ACCOUNTS)} == {200}


def test_a_redis_that_hangs_is_cut_off_and_its_late_answers_are_nobodys(
    client: Any, own_redis: OwnRedis
) -> None:
    assert check(ask(client, 1), 1) == 200
    own_redis.send(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, client, i) for i in range(8)]
        assert {check(each.result(timeout=60), i) for i, each in enumerate(answers)} == {503}
    own_redis.send(signal.SIGCONT)
    for account in reversed(range(ACCOUNTS)):
        assert check(ask(client, account), account) == 200


def test_what_redis_refuses_to_one_request_fails_no_other_of_the_same_round_trip(
    client: Any, own_redis: OwnRedis
) -> None:
    """The first goes alone; all the others share the next round trip."""
    config = feature_store().config
    names = ["a1", "a2", "broken", "a3"]
    keys = encode_keys("account_id", names)
    own_redis.client.set(keys[2] + config.project.encode(), "no hash")
    view = next(v for v in Plans().service(SERVICE).views if v.name == "account_amount_features")

    async def read() -> list[Any]:
        reader = redis_store.reader(config)
        asked = [reader([(view, [key])], 5.0) for key in keys]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        answers.append(await reader([(view, keys[:1])], 5.0))
        await reader.close()
        return answers

    *answers, after = asyncio.run(read())
    assert isinstance(answers.pop(2), StoreUnavailable)
    for key, (answer,) in zip([*keys[:2], keys[3], keys[0]], [*answers, after], strict=True):
        assert answer.mark and key in answer.rows
    assert ask(client, 1).status_code == 200


def test_a_request_without_a_stored_feature_asks_redis_nothing(own_redis: OwnRedis) -> None:
    own_redis.kill()
    reader = redis_store.reader(feature_store().config)
    assert asyncio.run(reader([], 5.0)) == []


def test_what_is_pushed_to_a_redis_that_is_away_is_refused_and_pushed_again(
    client: Any, own_redis: OwnRedis
) -> None:
    body = {
        "rows": [
            {"card_id": "c", "transaction_id": "t", "event_at": START.isoformat(),
             "amount_minor": 5, "is_declined": False}
        ]
    }  # fmt: skip
    own_redis.send(signal.SIGSTOP)
    answers = [client.post("/push", json=body)]
    own_redis.kill()
    answers.append(client.post("/push", json=body))
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "CARDLINE_REDIS_URL" in answer.json()["detail"]
    own_redis.start()
    assert client.post("/push", json=body).json() == {"rows": 1, "cards_changed": 1}
    # Filling the emptied Redis leaves what was pushed in between.
    materialize(end=START + DAY)
    asked = {"card_id": "c", "event_at": (START + DAY).isoformat()}
    assert online("fraud_authorization_v1", [asked])[0]["card_count_24h"] == 1


def test_what_is_wrong_is_told_by_the_settings_name(client: Any, own_redis: OwnRedis) -> None:
    own_redis.kill()
    with pytest.raises(CardlineError, match="CARDLINE_REDIS_URL"):
        online(SERVICE, [{"account_id": "a1"}])
    with pytest.raises(CardlineError, match="CARDLINE_REDIS_URL"):
        materialize(end=START + DAY)
