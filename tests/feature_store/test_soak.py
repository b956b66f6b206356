"""An hour of the real server in minutes: everything that it answers, at once, on flat memory.

    SOAK_MINUTES=10 pytest -m slow -s tests/feature_store/test_soak.py

prints what was asked and what the memory did.
"""

import itertools
import os
import random
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pipelines.features.materialize import materialize
from tests.feature_store.servers import serving
from tests.feature_store.tables import DAY, START, Fill, Publish
from tests.feature_store.test_online import random_tables
from tests.feature_store.test_scores import FRAUD, UNDERWRITING, register_fraud
from tests.feature_store.test_scores import register_underwriting as register_card

MINUTES = float(os.environ.get("SOAK_MINUTES", "5"))
CLIENTS = 4
ACCOUNTS = 100
FEATURE = "amount_count_30d"
# Of three minutes the slope was 47 and 69 bytes; anything of a request that stayed would be more:
# the smallest answer is a kilobyte.
MAX_BYTES_A_REQUEST = 150
FIRST, SECOND = 1_000, 2_000


def accounts(offset: int, day: int) -> list[dict[str, Any]]:
    at = START + day * DAY
    return [
        {"account_id": f"a{i}", FEATURE: offset + i, "event_timestamp": at, "created_timestamp": at}
        for i in range(ACCOUNTS)
    ]


class Load:
    """Clients that ask for everything until they are told to stop, and check the answers."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.answers: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self.values = {FIRST}
        self._stop = threading.Event()
        self._pushed = itertools.count()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _run(self, seed: int) -> None:
        choose = random.Random(seed)
        kinds = [self._read, self._read, self._read, self._score, self._push, self._nonsense]
        with httpx.Client(base_url=self.base, timeout=30) as client:
            while not self._stop.is_set():
                kind = choose.choice(kinds)
                try:
                    status = kind(client, choose)
                except Exception as error:
                    self.wrong.append(f"{kind.__name__}: {error!r}")
                    return
                self.answers[kind.__name__.strip("_"), status] += 1

    def _read(self, client: httpx.Client, choose: random.Random) -> int:
        asked = [choose.randrange(ACCOUNTS) for _ in range(choose.choice([1, 10, 100]))]
        body = {
            "feature_service": "account_behaviour_v1",
            "entities": {"account_id": [f"a{i}" for i in asked]},
        }
        before = set(self.values)
        answer = client.post("/get-online-features", json=body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        found = told["results"][told["metadata"]["feature_names"].index(FEATURE)]["values"]
        for i, value in zip(asked, found, strict=True):
            assert value - i in before | self.values, (i, value)
        return answer.status_code

    def _score(self, client: httpx.Client, choose: random.Random) -> int:
        row = choose.choice([FRAUD, UNDERWRITING])
        path = "/v1/score/fraud" if row is FRAUD else "/v1/score/underwriting"
        rows = [row | {"reference": f"r{choose.randrange(10**9)}"} for _ in range(5)]
        answer = client.post(f"{path}/batch", json={"rows": rows[: choose.choice([1, 5])]})
        assert answer.status_code == 200, answer.text
        assert all(each["score"] >= 0 for each in answer.json()["decisions"])
        return answer.status_code

    def _push(self, client: httpx.Client, choose: random.Random) -> int:
        number = next(self._pushed)
        row = {
            "card_id": f"card_id-{choose.randrange(50)}",
            "transaction_id": f"soak-{number}",
            "event_at": (START + 41 * DAY + number * timedelta(seconds=1)).isoformat(),
            "amount_minor": number,
            "is_declined": False,
        }
        answer = client.post("/v1/push", json={"rows": [row]})
        # A push may have to wait for a materialisation longer than the deadline: then again.
        assert answer.status_code == 200 or answer.headers["retry-after"], answer.text
        return answer.status_code

    def _nonsense(self, client: httpx.Client, choose: random.Random) -> int:
        path, body = choose.choice(
            [
                ("/get-online-features", {"features": [f"no:{choose.random()}"], "entities": {}}),
                ("/get-online-features", {"feature_service": f"s{choose.random()}"}),
                (f"/{choose.random()}", {}),
                ("/v1/push", {"rows": [{"card_id": choose.random()}]}),
            ]
        )
        answer = client.post(path, json=body)
        assert 400 <= answer.status_code < 500, answer.text
        client.get("/metrics").raise_for_status()
        return answer.status_code


@pytest.mark.slow
def test_memory_is_flat_under_everything_at_once(
    online_store: str, fill: Fill, publish_all: Publish, home: Path
) -> None:
    tables = random_tables(3)
    fill(**tables | {"account_amount_features": accounts(FIRST, 1)})
    publish_all()
    materialize(end=START + 40 * DAY)
    register_card()
    register_fraud()
    samples: list[tuple[float, int, int]] = []
    with serving() as (port, process):
        with Load(port) as load:
            started = time.monotonic()
            is_changed = False
            while (elapsed := time.monotonic() - started) < 60 * MINUTES and not load.wrong:
                time.sleep(0.5)
                asked = sum(load.answers.values())
                samples.append((elapsed, asked, process.memory_info().rss))
                if not is_changed and elapsed > 30 * MINUTES:
                    is_changed = True
                    # Whoever asks meanwhile has the old row or the new one, and no refusal.
                    rows = accounts(FIRST, 1) + accounts(SECOND, 41)
                    fill(**tables | {"account_amount_features": rows})
                    publish_all()
                    load.values |= {SECOND}
                    materialize(end=START + 42 * DAY)
                    load.values -= {FIRST}
        files = process.num_fds()
        threads = process.num_threads()
    assert load.wrong == []
    assert is_changed
    # The first third warms up: models, caches, the allocator's arenas.
    third = [(asked, rss) for elapsed, asked, rss in samples if elapsed > 20 * MINUTES]
    requests, resident = np.array(third, float).T
    slope = float(np.polyfit(requests, resident, 1)[0])
    told = " ".join(f"{kind}:{status}={n}" for (kind, status), n in sorted(load.answers.items()))
    print(
        f"\n{online_store}: {MINUTES:g} min, {samples[-1][1]:,} requests ({told}); resident "
        f"{samples[0][2] / 1e6:.1f} MB at the start, {resident[0] / 1e6:.1f} after warming up, "
        f"{resident[-1] / 1e6:.1f} at the end, at most {resident.max() / 1e6:.1f}; "
        f"{slope:+.1f} bytes a request; {files} files, {threads} threads"
    )
    for kind in ("read", "score", "push"):
        assert load.answers[kind, 200] > 100
    assert not [key for key in load.answers if key[1] >= 500 and key[0] != "push"]
    assert load.answers["push", 503] < 0.02 * load.answers["push", 200]
    assert slope < MAX_BYTES_A_REQUEST
    assert files < 100
