"""Pushed authorizations: seen by the next read, neither lost nor counted twice by later batches."""

import json
import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.features.materialize import materialize
from pipelines.features.parity import parity
from pipelines.features.pushes import VIEWS, Authorization, changes_of, parsed
from pipelines.features.registry import feature_store
from pipelines.features.retrieval import feature_names, online
from pipelines.serving.app import MAX_PUSH_ROWS
from pipelines.serving.server import create_app
from pipelines.serving.tokens import create_token
from pipelines.settings import get_settings
from tests.feature_store.tables import DAY, START, Fill, Publish
from tests.feature_store.test_simulated_clock import SECOND, SERVICE, busy_week
from tests.property.messages import History, Message, built
from tests.property.test_windows import WINDOWS, _ever, _kilometres, _standing

PLACE = (48.85, 2.35)
VIEW = "card_recent_features"


@pytest.fixture
def client(online_store: str, embedded: Any) -> Any:
    """A server on either store, as of the start of a week."""
    return embedded


@pytest.fixture
def embedded(home: Any, fill: Fill, publish_all: Publish) -> Iterator[Any]:
    """A server on a store that is as of the start of a week: SQLite, but as `client` either."""
    from fastapi.testclient import TestClient

    fill(**built(busy_week(1), VIEW))
    publish_all()
    materialize(end=START)
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        yield client


def row(number: int, at: datetime, **others: Any) -> dict[str, Any]:
    return {
        "card_id": "new",
        "transaction_id": f"p{number}",
        "event_at": at.isoformat(),
        "amount_minor": 100 + number,
        "is_declined": False,
        **others,
    }


def push(client: Any, *rows: dict[str, Any]) -> dict[str, int]:
    answer = client.post("/v1/push", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()


def read(client: Any, card: str, event_at: datetime, **others: str) -> dict[str, Any]:
    """The features of a card in France, and of others, at `event_at`."""
    given = {**others, "card_id": card, "event_at": event_at.isoformat(), "is_card_present": True}
    given |= {"latitude": PLACE[0], "longitude": PLACE[1]}
    entities = {name: [value] for name, value in given.items()}
    answer = client.post(
        "/get-online-features", json={"feature_service": SERVICE, "entities": entities}
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    names = body["metadata"]["feature_names"]
    return {name: c["values"][0] for name, c in zip(names, body["results"], strict=True)}


def test_the_next_read_has_it_of_a_card_that_nobody_knew(client: Any) -> None:
    assert read(client, "new", START)["card_count_1h"] is None
    first, later = START + DAY, START + DAY + 50 * 60 * SECOND
    assert push(client, row(1, first)) == {"rows": 1, "cards_changed": 1}
    assert push(client, row(2, later, is_declined=True), row(3, later, card_id="other")) == {
        "rows": 2,
        "cards_changed": 2,
    }
    tick = timedelta(microseconds=1)
    for at, counts in {
        first: (0, 0),
        later: (1, 0),
        later + tick: (1, 1),
        first + 3_600 * SECOND: (1, 1),
        first + 3_600 * SECOND + tick: (0, 1),
    }.items():
        found = read(client, "new", at)
        assert (found["card_count_1h"], found["card_declined_count_1h"]) == counts, at
        asked = {"card_id": "new", "event_at": at.isoformat()}
        assert online(SERVICE, [asked])[0]["card_count_1h"] == counts[0]
    found = read(client, "new", later + SECOND)
    assert found["card_amount_1h_minor"] == 101
    assert found["seconds_since_used"] == 3_001
    assert found["seconds_since_declined"] == 1
    # What is asked about an earlier time does not look ahead.
    early = read(client, "new", first + SECOND)
    assert (early["seconds_since_used"], early["seconds_since_declined"]) == (1, None)
    assert read(client, "new", first)["seconds_since_used"] is None
    assert read(client, "new", first - SECOND)["seconds_since_used"] is None


def test_the_same_again_changes_nothing_and_order_does_not_count(client: Any) -> None:
    rows = [row(n, START + DAY + n * 700 * SECOND, is_declined=n % 3 == 0) for n in range(200)]
    random.Random(1).shuffle(rows)
    push(client, *rows)
    at = START + 4 * DAY
    found = read(client, "new", at)
    assert push(client, *rows) == {"rows": 200, "cards_changed": 0}
    table = feature_store().get_feature_view(VIEW)
    states = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        ((_, change),) = changes_of(table, parsed(rows[:120])).items()
        ((_, again),) = changes_of(table, parsed(rows[60:])).items()
        states.add(again(change(None)))
    assert len(states) == 1
    assert read(client, "new", at) == found


def test_older_than_a_day_before_the_newest_is_in_no_window_and_no_error(client: Any) -> None:
    newest = START + 3 * DAY
    push(client, row(1, newest))
    late = row(2, newest - DAY - 600 * SECOND)
    assert push(client, late) == {"rows": 1, "cards_changed": 0}
    assert read(client, "new", newest + SECOND)["card_count_24h"] == 1
    # What is told of the last decline is not bound to a day.
    push(client, late | {"transaction_id": "p3", "is_declined": True})
    found = read(client, "new", newest + SECOND)
    assert found["seconds_since_declined"] == DAY / SECOND + 601
    assert found["card_declined_count_24h"] == 0


def test_of_one_transaction_the_earliest_stands(client: Any) -> None:
    at = START + DAY
    push(client, row(1, at + 60 * SECOND, amount_minor=5))
    push(client, row(1, at, amount_minor=7))
    push(client, row(1, at + 90 * SECOND, amount_minor=9))
    found = read(client, "new", at + 120 * SECOND)
    assert (found["card_count_1h"], found["card_amount_1h_minor"]) == (1, 7)


def test_the_last_128_are_kept(client: Any) -> None:
    at = START + DAY
    push(client, *[row(n, at + n * SECOND) for n in range(140)])
    found = read(client, "new", at + 140 * SECOND)
    assert found["card_count_1h"] == 128
    assert found["card_amount_1h_minor"] == sum(100 + n for n in range(12, 140))


def test_what_is_pushed_of_a_busy_merchant_is_added(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    """Of later than its latest authorization: what was earlier is in the windows that it tells."""
    from fastapi.testclient import TestClient

    heard = START + 3_600 * SECOND
    stamp = (heard - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    latest = stamp - 30 * 1_000_000
    log = f"={stamp}:{latest}:5:1:500:20:2:2000:40:3:4000"
    times = {"event_timestamp": heard, "created_timestamp": heard}
    fill(
        merchant_recent_features=[
            {"merchant_id": "m", "merchant_recent_authorizations": log, **times}
        ]
    )
    publish_all()
    materialize(end=heard)
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        for number, seconds in enumerate((-60, -10, 60, 120)):
            push(client, row(number, heard + seconds * SECOND, merchant_id="m"))
        for seconds, count_15m, count_1h in ((121, 8, 23), (960, 2, 23), (3_661, 0, 1)):
            found = read(client, "new", heard + seconds * SECOND, merchant_id="m")
            assert (found["merchant_count_15m"], found["merchant_count_1h"]) == (
                count_15m,
                count_1h,
            )


@dataclass
class Clock:
    """What a store has been told: the batches up to a moment, and the pushes."""

    history: History
    known_through: datetime
    pushed: list[Message]

    def windows(self, entity: str, column: str, key: str, event_at: datetime) -> dict[str, Any]:
        """A plain recount of the windows of one entity that the service has."""
        ever, mine = self._told(column, key)
        ids = {m.transaction_id for m in ever}
        standing = _standing(self.history, self.known_through)
        counted = [m for m in standing if getattr(m, column) == key]
        counted += {m.transaction_id: m for m in mine if m.transaction_id not in ids}.values()
        found: dict[str, Any] = {}
        for name, length in WINDOWS.items():
            window = [m for m in counted if event_at - length <= m.event_at < event_at]
            approved = [m for m in window if not m.is_declined]
            found[f"{entity}_count_{name}"] = len(approved)
            found[f"{entity}_declined_count_{name}"] = len(window) - len(approved)
            found[f"{entity}_amount_{name}_minor"] = sum(m.amount_minor for m in approved)
        if not ever and not mine:
            found = dict.fromkeys(found)
        return {name: value for name, value in found.items() if name in feature_names(SERVICE)}

    def expected(self, card: str, event_at: datetime) -> dict[str, Any]:
        """A plain recount of one card's features."""
        found = self.windows("card", "card_id", card, event_at)
        ever, mine = self._told("card_id", card)
        for what, is_declined in (("used", False), ("declined", True)):
            times = [m.event_at for m in [*ever, *mine] if m.is_declined is is_declined]
            found[f"seconds_since_{what}"] = (event_at - max(times)) / SECOND if times else None
        return found

    def _told(self, column: str, key: str) -> tuple[list[Message], list[Message]]:
        """What batches and what pushes ever told of an entity."""
        ever = [m for _, m in _ever(self.history, self.known_through) if getattr(m, column) == key]
        return ever, [m for m in self.pushed if getattr(m, column) == key]

    def distances(self, card: str) -> set[float]:
        """From where the card was last used in person; of a tie, from any."""
        ever = [m for _, m in _ever(self.history, self.known_through)]
        used = [
            m
            for m in [*ever, *self.pushed]
            if m.card_id == card and m.is_card_present and not m.is_declined
        ]
        last = max((m.event_at for m in used), default=None)
        return {
            _kilometres(*PLACE, m.latitude or 0.0, m.longitude or 0.0)
            for m in used
            if m.event_at == last
        }


def _as_row(message: Message) -> dict[str, Any]:
    names = Authorization.model_fields.keys() - {"event_at"}
    given = {name: getattr(message, name) for name in names}
    return given | {"event_at": message.event_at.replace(tzinfo=UTC).isoformat()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pushes_and_batches_in_any_order_are_a_plain_recount(
    online_store: str, fill: Fill, publish_all: Publish, seed: int
) -> None:
    """Some are never pushed, some late, some twice; batches bring some first, some corrected."""
    from fastapi.testclient import TestClient

    choose = random.Random(seed)
    history = busy_week(seed)
    fill(**built(history, *VIEWS))
    publish_all()
    materialize(end=START)
    clock = Clock(history, START, [])
    pushes = [
        (message.event_at + SECOND * choose.choice([0, 0, 1, 600, 18_000, 100_000]), message)
        for message in history.messages
        for _ in range(choose.choice([0, 1, 1, 1, 2]))
        if message.version_no == 1
    ]
    pushes.sort(key=lambda each: each[0])
    seen: set[Any] = set()
    others_seen: set[Any] = set()
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        for number, (at, message) in enumerate(pushes):
            push(client, _as_row(message))
            clock.pushed.append(message)
            if choose.random() < 0.08:
                end = at - SECOND * choose.choice([0, 0, 700, 30_000])
                clock.known_through = max(clock.known_through, end)
                materialize(end=clock.known_through, views=[*VIEWS], is_full=choose.random() < 0.3)
            if number % 5:
                continue
            card = f"c{choose.randrange(5)}"
            event_at = at + SECOND * choose.choice([0, 1, 899, 900, 3_600])
            others = {
                "account_id": choose.choice(["a0", "a1", "a2"]),
                "merchant_id": choose.choice(["m0", "m1", "m3"]),
                "device_id": choose.choice(["d0", "d1"]),
                "ip_hash": "i0",
            }
            found = read(client, card, event_at, **others)
            expected = clock.expected(card, event_at)
            for view, column in VIEWS.items():
                if column in others:
                    entity = view.removesuffix("_recent_features")
                    expected |= clock.windows(entity, column, others[column], event_at)
            assert {name: found[name] for name in expected} == pytest.approx(expected)
            distances = clock.distances(card)
            if distances:
                nearest = min(distances, key=lambda d: abs(d - found["distance_km"]))
                assert found["distance_km"] == pytest.approx(nearest)
            else:
                assert found["distance_km"] is None
            seen |= {found["card_count_1h"], found["card_count_24h"]}
            others_seen |= {found["merchant_count_1h"], found["device_count_24h"]}
    assert seen >= {None, 0, 1, 2}
    assert others_seen >= {None, 0, 1, 2}
    # Batches are compared with history as if nothing had been pushed.
    materialize(end=clock.known_through)
    assert parity(services=[SERVICE]).is_empty()


def test_what_the_batches_tell_of_an_authorization_stands(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    """Though the sender's clock and amount were others."""
    from fastapi.testclient import TestClient

    history = History(busy_week(1).messages[:1], (), ())
    (message,) = history.messages
    fill(**built(history, VIEW))
    publish_all()
    materialize(end=message.event_at - SECOND)
    other = _as_row(message) | {"amount_minor": 10_000, "is_declined": False}
    other["event_at"] = (message.event_at + SECOND).isoformat()
    later = max(message.received_at, message.event_at) + SECOND
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        push(client, other)
        assert read(client, message.card_id, later + SECOND)["card_amount_24h_minor"] == 10_000
        materialize(end=later)
        found = read(client, message.card_id, later + SECOND)
        assert found["card_count_24h"] + found["card_declined_count_24h"] == 1
        told = 0 if message.is_declined else message.amount_minor
        assert found["card_amount_24h_minor"] == told


def test_two_who_push_one_card_at_once_lose_nothing(client: Any) -> None:
    from fastapi.testclient import TestClient

    def send(other: Any, first: int) -> None:
        for number in range(first, first + 30):
            push(other, row(number, START + DAY + number * SECOND))

    with (
        TestClient(create_app(), base_url="http://127.0.0.1") as one,
        TestClient(create_app(), base_url="http://127.0.0.1") as two,
        ThreadPoolExecutor(4) as pool,
    ):
        sent = [pool.submit(send, each, n * 30) for n, each in enumerate([one, two, one, two])]
        for each in sent:
            each.result(timeout=60)
    found = read(client, "new", START + DAY + 200 * SECOND)
    assert found["card_count_1h"] == 120
    assert found["card_amount_1h_minor"] == sum(100 + n for n in range(120))


def test_it_takes_what_feast_pushes(embedded: Any) -> None:
    rows = [row(n, START + DAY + n * SECOND) for n in range(3)]
    asked = {
        "push_source_name": "authorizations",
        "df": {name: [each[name] for each in rows] for name in rows[0]},
        "to": "online",
        "allow_registry_cache": True,
    }
    assert embedded.post("/push", json=asked).json() == {"rows": 3, "cards_changed": 1}
    assert read(embedded, "new", START + DAY + 10 * SECOND)["card_count_15m"] == 3
    for wrong in (
        {"to": "offline"},
        {"push_source_name": "other"},
        {"df": {}},
        {"df": {"card_id": "c"}},
        {"df": {"card_id": ["c"], "transaction_id": []}},
        {"df": {"card_id": ["c"]}},
    ):
        assert embedded.post("/push", json=asked | wrong).status_code == 422, wrong


FUTURE = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"card_id": ""}, "card_id"),
    ({"card_id": 5}, "card_id"),
    ({"card_id": "4111 1111 1111 1111"}, "card_id holds a card number"),
    ({"transaction_id": "x" * 129}, "transaction_id"),
    ({"transaction_id": "4111111111111111"}, "transaction_id holds a card number"),
    ({"transaction_id": None}, "transaction_id"),
    ({"event_at": "yesterday"}, "event_at"),
    ({"event_at": 1_700_000_000}, "event_at"),
    ({"event_at": FUTURE}, "event_at"),
    ({"amount_minor": -1}, "amount_minor"),
    ({"amount_minor": 1.5}, "amount_minor"),
    ({"amount_minor": True}, "amount_minor"),
    ({"amount_minor": "100"}, "amount_minor"),
    ({"amount_minor": 10**400}, "amount_minor"),
    ({"is_declined": "false"}, "is_declined"),
    ({"is_card_present": 1}, "is_card_present"),
    ({"latitude": 91}, "latitude"),
    ({"longitude": 10**400}, "longitude"),
    (
        {"4111 1111 1111 1111": "secret merchant"},
        "has a field that is not taken; an authorization has card_id",
    ),
]


def test_what_cannot_be_meant_is_refused_whole_and_not_repeated(embedded: Any) -> None:
    right = row(1, START + DAY)
    for wrong, says in WRONG:
        answer = embedded.post("/push", json={"rows": [right, right | wrong]})
        assert answer.status_code == 422, wrong
        assert answer.json()["detail"].startswith((f"rows[1] {says}", says)), answer.text
        for value in wrong.values():
            assert len(str(value)) < 9 or str(value) not in answer.text
    assert read(embedded, "new", START + DAY + SECOND)["card_count_1h"] is None


def test_a_store_that_another_writes_is_waited_for_no_longer_than_the_deadline(
    embedded: Any,
) -> None:
    other = sqlite3.connect(get_settings().feast_dir / "online.db", isolation_level=None)
    other.execute("begin immediate")
    body = {"rows": [row(1, START + DAY)]}
    answer = embedded.post("/push", json=body)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert read(embedded, "new", START + DAY + SECOND)["card_count_1h"] is None
    other.rollback()
    other.close()
    # What was cut off may have been written at the last moment; once more changes nothing then.
    assert embedded.post("/push", json=body).json()["rows"] == 1
    assert read(embedded, "new", START + DAY + SECOND)["card_count_1h"] == 1


def test_bodies_that_are_no_push(embedded: Any) -> None:
    for body in ({}, [], {"rows": []}, {"rows": {}}, {"rows": [1]}, {"rows": [None]},
                 {"rows": [row(1, START)], "more": 1}):  # fmt: skip
        assert embedded.post("/push", json=body).status_code == 422, body
    many = [row(1, START)] * (MAX_PUSH_ROWS + 1)
    assert embedded.post("/push", json={"rows": many}).status_code == 413


def test_it_needs_a_scope_of_its_own_and_is_audited(
    home: Any, fill: Fill, publish_all: Publish
) -> None:
    from fastapi.testclient import TestClient

    fill()
    publish_all()
    materialize(end=START)
    reader = create_token("reader", ["score:fraud", f"features:{SERVICE}"])
    sender = create_token("sender", ["push"])
    body = {"rows": [row(1, START + DAY)]}
    with TestClient(create_app(), base_url="http://10.0.0.1") as client:
        for token, status in ((None, 401), (reader, 403), (sender, 200)):
            client.headers["Authorization"] = f"Bearer {token}"
            assert client.post("/push", json=body).status_code == status
        asked = {"feature_service": SERVICE, "entities": {"card_id": ["new"]}}
        assert client.post("/get-online-features", json=asked).status_code == 403
    (path,) = get_settings().serve_logs_dir.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    audited = [(each["client"], each["rows"], each["status"]) for each in lines[:3]]
    assert audited == [("unknown", 0, 401), ("reader", 0, 403), ("sender", 1, 200)]
    assert {each["route"] for each in lines[:3]} == {"/push"}
