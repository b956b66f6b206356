"""All card, account and merchant windows over N transactions, beside four bare windows by card.

    python -m benchmarks.windows [--transactions N] [--threads N]

The reference is one DuckDB query: count and sum over four windows (1 hour, 24 hours, 7 and 30 days)
by card, the row itself left out. Ours are the dbt models as the daily run has them, built whole:
windows of days by card, account and merchant (counts, declines, amounts, squares, maxima, known
frauds, different merchants, categories, countries and cards) at every change, and the log of each
for windows that are counted at the request. Both read the same table and write Parquet, in the same
process; peak memory is the process's after ours, before the reference. A card has about 300
transactions in a year, one in a thousand is a fraud that becomes known, one in fifty arrives late.
The log of an account in a category, which is of a pair, is told besides and not in the ratio.
"""

import argparse
import json
import tempfile
import time

import duckdb

from benchmarks.memory import peak_bytes
from benchmarks.rendered import rendered
from pipelines.warehouse import memory

MODELS = (
    "card_velocity_features",
    "card_recent_features",
    "account_amount_features",
    "account_recent_features",
    "merchant_risk_features",
    "merchant_recent_features",
)
PAIRS = "account_mcc_features"
_BARE = """
select card_id, event_at, {columns}
from int_authorizations__known
"""
_WINDOW = """
(partition by card_id order by event_at
    range between interval '{seconds}' second preceding
    and interval '0.000001' second preceding)
"""
SECONDS = (3_600, 86_400, 7 * 86_400, 30 * 86_400)


def main() -> None:
    """Run the benchmark; a line for each model, and all figures as JSON at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    arguments = parser.parse_args()
    with memory() as con:
        if arguments.threads:
            con.execute(f"set threads = {arguments.threads}")
        con.execute("set preserve_insertion_order = false")
        print(json.dumps(measure(con, arguments.transactions)))


def measure(con: duckdb.DuckDBPyConnection, transactions: int) -> dict[str, float | int]:
    """Seconds of each model and of the reference, their ratio, and MiB at the peak."""
    make_transactions(con, transactions)
    figures: dict[str, float | int] = {"transactions": transactions}
    ours = ours_processor = 0.0
    for model in MODELS:
        rows, seconds, processor = _written(con, rendered(model))
        print(f"{model}: {seconds:.2f} s, {rows:,} rows")
        figures[model] = round(seconds, 2)
        ours += seconds
        ours_processor += processor
    peak = peak_bytes() / (1 << 20)
    columns = ", ".join(
        f"count(*) over {window} as n_{at}, sum(amount_minor) over {window} as sum_{at}"
        for at, window in enumerate(_WINDOW.format(seconds=seconds) for seconds in SECONDS)
    )
    _, bare, bare_processor = _written(con, _BARE.format(columns=columns))
    print(f"four bare windows by card: {bare:.2f} s")
    rows, pairs, _ = _written(con, rendered(PAIRS))
    print(f"besides, {PAIRS}: {pairs:.2f} s, {pairs / bare:.2f} × the four, {rows:,} rows")
    print(
        f"all windows: {ours:.2f} s, {ours / bare:.2f} × the four, "
        f"{ours_processor / bare_processor:.2f} × in processor time; {peak:,.0f} MiB at the peak"
    )
    return figures | {
        PAIRS: round(pairs, 2),
        "all_windows": round(ours, 2),
        "four_bare_windows": round(bare, 2),
        "ratio": round(ours / bare, 2),
        "processor_ratio": round(ours_processor / bare_processor, 2),
        "peak_mib": round(peak),
    }


def make_transactions(con: duckdb.DuckDBPyConnection, count: int) -> None:
    """What the models read, made up: `int_authorizations__known` and `int_fraud_labels__known`."""
    con.execute(
        """
        create or replace table int_authorizations__known as
        with drawn as (
            select i, hash(i) as a, hash(i + ?::bigint) as b
            from range(?::bigint) as numbers(i)
        ),
        told as (
            select
                't' || i as transaction_id,
                'card_' || (a % greatest(1, ?::bigint // 300)) as card_id,
                'acc_' || (a % greatest(1, ?::bigint // 300) // 2) as account_id,
                -- A few merchants have most of it.
                'mer_' || cast(pow((b % 1000003) / 1000003.0, 3) * ?::bigint / 300 as bigint)
                    as merchant_id,
                'mcc_' || (b % 97) as mcc,
                case when a % 20 = 0 then 'FR' else 'US' end as merchant_country,
                timestamp '2024-01-01'
                + to_microseconds(cast((b >> 8) % 31536000000000 as bigint)) as event_at,
                cast(100 + a % 20000 as bigint) as amount_minor,
                b % 40 = 0 as is_declined,
                a % 2 = 0 as is_card_present,
                40 + (a % 1000) / 1000.0 as latitude,
                -74 - (b % 1000) / 1000.0 as longitude,
                case when a % 50 = 0 then b % 1000000 else 2 end as seconds_late
            from drawn
        )
        select
            * exclude (seconds_late),
            event_at + to_seconds(cast(seconds_late as bigint)) as known_at,
            cast(null as timestamp) as known_until,
            cast(event_at as date) as active_from,
            cast(known_at as date) as known_from,
            cast(null as date) as known_to
        from told
        """,
        [count, count, count, count, count],
    )
    con.execute(
        """
        create or replace table int_fraud_labels__known as
        select transaction_id, true as is_fraud, active_from + 9 as known_from,
            cast(null as date) as known_to
        from int_authorizations__known
        where hash(transaction_id) % 1000 = 0
        """
    )


def _written(con: duckdb.DuckDBPyConnection, query: str) -> tuple[int, float, float]:
    """Rows that `query` gives, and seconds of wall and of the processors to write them."""
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        [(rows,)] = con.execute(
            f"copy ({query}) to '{folder}/rows.parquet' (compression zstd)"
        ).fetchall()
        return rows, time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
