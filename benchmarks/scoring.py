"""A score over HTTP beside the read of its features, and beside the model alone:

    CARDLINE_HOME=… python -m benchmarks.scoring [--seconds 3] [--connections 1,8]

On a home that has models and online features (`cardline demo` makes one), by whichever store it is
set to. The rows are the home's latest authorizations and applications, one a request. A score takes
what the read takes, what the model itself takes (scored and explained in this process), and the
entry of the decision log.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from benchmarks.online import over_http, server
from pipelines.features.retrieval import POLARS_TYPES, online, service_definition
from pipelines.settings import get_settings
from pipelines.training import FRAUD, UNDERWRITING
from pipelines.training_frames import FRAUD_SERVICE, UNDERWRITING_SERVICE
from pipelines.warehouse import connect

_LATEST = {
    FRAUD: """
        select card_id, account_id, merchant_id, amount_minor, mcc, device_id, ip_hash, entry_mode,
            merchant_country, is_card_present, latitude, longitude, event_at,
            extract(hour from event_at)::bigint as event_hour,
            extract(isodow from event_at)::bigint as event_weekday
        from intermediate.int_authorizations__known
        where known_until is null order by event_at desc, transaction_id limit 64
    """,
    UNDERWRITING: """
        select pull_id, customer_id, stated_income_minor, housing_payment_minor,
            requested_limit_minor
        from risk.underwriting_spine
        where pull_id is not null and customer_id is not null
        order by decision_at desc, application_id limit 64
    """,
}
_SERVICES = {FRAUD: FRAUD_SERVICE, UNDERWRITING: UNDERWRITING_SERVICE}


def main() -> None:
    """Measure and print a line for each model and number of connections."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell")
    parser.add_argument("--connections", default="1,8", help="at the same time")
    options = parser.parse_args()
    store = get_settings().online_store
    os.environ["CARDLINE_SERVE_REQUESTS_PER_SECOND"] = "0"
    command = [sys.executable, "-m", "pipelines", "serve", "--port", "{port}"]
    print(f"{'':<14}{'':<10}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}   {store}")
    with server(command) as port:
        for model, service in _SERVICES.items():
            rows = _latest(model)
            reads = [
                json.dumps(
                    {"feature_service": service, "entities": {n: [v] for n, v in row.items()}}
                ).encode()
                for row in rows
            ]
            scores = [json.dumps(row).encode() for row in rows]
            for count in map(int, options.connections.split(",")):
                for what, bodies, path in (
                    ("features", reads, "/get-online-features"),
                    ("score", scores, f"/v1/score/{model}"),
                ):
                    told = over_http(what, store, 1, count, port, bodies, options.seconds, path)
                    _print(model, what, count, told.per_second, told.p50_ms, told.p99_ms)
            took = _model_alone(model, service, rows, options.seconds)
            p50, p99 = np.quantile(took, [0.5, 0.99]) * 1000
            _print(model, "model", 1, 1 / np.mean(took), float(p50), float(p99))


def _print(model: str, what: str, count: int, rate: Any, p50: float, p99: float) -> None:
    print(f"{model:<14}{what:<10}{count:>6}{rate:>9,.0f}{p50:>9.2f}{p99:>9.2f}", flush=True)


def _latest(model: str) -> list[dict[str, Any]]:
    """Keys and request values as a caller gives them; what is not known is left out."""
    with connect(read_only=True) as con:
        found = con.execute(_LATEST[model]).pl().to_dicts()
    if not found:
        raise SystemExit(f"this home has nothing to score by {model}: run `cardline demo` in it")
    return [
        {
            name: value.isoformat() + "Z" if isinstance(value, datetime) else value
            for name, value in row.items()
            if value is not None
        }
        for row in found
    ]


def _model_alone(
    model: str, service: str, rows: list[dict[str, Any]], seconds: float
) -> list[float]:
    """Seconds to score and explain one row of features by the version that the server uses."""
    from pipelines.serving.scorers import Scorer

    loaded = Scorer(model).current()
    wanted = service_definition(service)
    kinds = wanted.features | wanted.request
    schema = {name: POLARS_TYPES[kind] for name, kind in kinds.items()}
    frames = [
        pl.DataFrame([dict.fromkeys(schema) | row | stored], schema=schema)
        for row, stored in zip(rows, online(service, rows), strict=True)
    ]
    score = _scored(model, loaded)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (started := time.perf_counter()) < until:
        score(frames[len(took) % len(frames)])
        took.append(time.perf_counter() - started)
    return took


def _scored(model: str, loaded: Any) -> Callable[[pl.DataFrame], object]:
    if model == FRAUD:
        from models.fraud import scoring as fraud

        return lambda frame: (
            fraud.score_frame(loaded.estimator, frame),
            fraud.alert_reasons(loaded.estimator, frame),
        )
    from models.underwriting import scoring as underwriting

    method = get_settings().reason_method
    return lambda frame: underwriting.score_frame(loaded.estimator, loaded.reasons, frame, method)


if __name__ == "__main__":
    main()
