"""A training set out of the feature store, beside a plain join and beside stock Feast:

    python -m benchmarks.retrieval [--applications 200000] [--who ours,plain,duckdb,dask] [--train]

The set is that of the underwriting models: each application with the features of `underwriting_v1`
as known at its decision. The history is made up: a report for each application, one in ten
corrected after the decision and one in twenty before it, and the applications of customers, of
whom one in ten applies twice. `plain` is one DuckDB query with an ASOF join for each view over the
same Parquet; `duckdb` and `dask` are Feast's own offline stores, which are asked for the stored
features alone. Everybody works in a process of its own and hands over an Arrow table, ours a frame
with the on-demand features besides. Seconds are of the processors, so that other work on the
machine changes them little, and begin after a retrieval of one row, which loads what has to be
loaded; the peak is of the process, imports included.

`--train` then trains and registers both underwriting models on these applications, as
`cardline train underwriting` does: the retrieval is in it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.memory import peak_bytes

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

SERVICE = "underwriting_v1"
WHO = ("ours", "plain", "duckdb", "dask")
TRAIN = "train"
MEASURES = ("processor", "wall", "peak")
_SPINE = """
create or replace table risk.underwriting_spine as
select
    'a' || i as application_id,
    'c' || (i % (? * 9 // 10 + 1)) as customer_id,
    'c' || (i % (? * 9 // 10 + 1)) as person_id,
    cast(null as varchar) as account_id,
    'p' || i as pull_id,
    timestamp '2023-01-01' + to_seconds(cast(hash(i) % 63072000 as bigint)) as decision_at,
    cast(3000000 + hash(i + 1) % 9000000 as bigint) as stated_income_minor,
    cast(50000 + hash(i + 2) % 200000 as bigint) as housing_payment_minor,
    cast(100000 + hash(i + 3) % 2000000 as bigint) as requested_limit_minor,
    if(hash(i + 4) % 10000 < 10000 / (1 + exp(5.5 - 5 * risk)), 'BAD', 'GOOD') as outcome,
    timestamp '2026-01-01' as outcome_known_at,
    cast(null as varchar) as exclusion,
    'APPROVED' as decision,
    'model' as decision_source,
    risk
from (select i, (hash(i + 5) % 1000 + hash(i + 6) % 1000) / 2000 as risk from range(?) as t(i))
order by hash(i)
"""
_REPORTS = """
create or replace table features.pull_bureau_features as
select pull_id, {features}, known_at as event_timestamp, known_at as created_timestamp
from (select *, (hash(pull_id) >> 20) + 1000 * version as noise from (
    select pull_id, risk, 0 as version, decision_at - interval 1 minute as known_at
    from risk.underwriting_spine
    union all
    select pull_id, risk, 1, decision_at - interval 1 hour
    from risk.underwriting_spine where hash(pull_id) % 20 = 0
    union all
    select pull_id, risk, 2, decision_at + interval 3 day
    from risk.underwriting_spine where hash(pull_id) % 10 = 1
))
"""
_CUSTOMERS = """
create or replace table features.customer_application_features as
select distinct on (customer_id, event_timestamp)
    customer_id, {features}, event_timestamp, created_timestamp
from (
    select customer_id, risk, (hash(application_id) >> 20) as noise,
        decision_at - interval 2 minute as event_timestamp,
        decision_at - interval 1 minute as created_timestamp
    from risk.underwriting_spine
)
"""
_ENTITIES = """
select application_id, pull_id, customer_id, stated_income_minor, housing_payment_minor,
    requested_limit_minor, decision_at as event_timestamp
from risk.underwriting_spine
order by application_id
"""


def main() -> None:
    """Measure and print a line for each contender, and what training took."""
    options = _options()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    root = Path(tempfile.mkdtemp(prefix="cardline-retrieval-"))
    os.environ["CARDLINE_HOME"] = str(root)
    try:
        subprocess.run([*_command(options), "--measure", "make"], check=True)
        print(f"{'':<10}{'rows':>10}{'features':>10}{'cpu s':>9}{'wall s':>9}{'peak MB':>9}")
        taken: dict[str, dict[str, float]] = {}
        for who in [*options.who.split(","), *([TRAIN] if options.train else [])]:
            answer = subprocess.run(
                [*_command(options), "--measure", who],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            told = json.loads(answer.stdout.splitlines()[-1])
            taken[who] = told
            print(
                f"{who:<10}{told['rows']:>10,}{told['features']:>10}"
                + "".join(f"{told[measure]:>9,.1f}" for measure in MEASURES),
                flush=True,
            )
        for who in sorted(taken.keys() - {"plain", TRAIN}) if "plain" in taken else ():
            ratios = (taken[who][measure] / taken["plain"][measure] for measure in MEASURES)
            cpu, wall, peak = (f"{ratio:.2f}" for ratio in ratios)
            print(f"{who} / plain: {cpu} in processor time, {wall} by the clock, {peak} in memory")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--applications", type=int, default=200_000)
    parser.add_argument("--who", default=",".join(WHO))
    parser.add_argument("--train", action="store_true", help="then train both models")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _command(options: Any) -> list[str]:
    count = ["--applications", str(options.applications)]
    return [sys.executable, "-m", "benchmarks.retrieval", *count]


def measure(who: str) -> dict[str, float]:
    """What `who` takes in this process for the home's applications."""
    if who == "make":
        make(_options().applications)
        return {}
    work = {"ours": _ours, "plain": _plain, TRAIN: _train}.get(who, lambda: _stock(who))()
    wall, processor = time.perf_counter(), time.process_time()
    rows, features = work()
    return {
        "rows": rows,
        "features": features,
        "processor": time.process_time() - processor,
        "wall": time.perf_counter() - wall,
        "peak": peak_bytes() / (1 << 20),
    }


def make(applications: int) -> None:
    """A home with so many applications and the published history of their features."""
    from pipelines.features.publish import publish
    from pipelines.features.registry import feature_store, load_definitions
    from pipelines.warehouse import connect

    with connect() as con:
        con.execute(_SPINE, [applications] * 3)
        con.execute(
            "insert into landing.files (file_id, feed, state, received_at, load_no) "
            "values ('f', 'applications', 'LOADED', timestamp '2026-01-02', 1)"
        )
        sources = {
            "pull_bureau_features": _REPORTS,
            "customer_application_features": _CUSTOMERS,
        }
        for name, view in load_definitions().views.items():
            if name in sources:
                con.execute(sources[name].format(features=_made_up(view.features)))
                continue
            columns = {view.key: "STRING", **view.features}
            kinds = {"INT64": "bigint", "DOUBLE": "double", "STRING": "varchar", "BOOL": "boolean"}
            typed = ", ".join(f"{column} {kinds[kind]}" for column, kind in columns.items())
            con.execute(
                f"create table features.{name} "
                f"({typed}, event_timestamp timestamp, created_timestamp timestamp)"
            )
        publish(con=con)
    feature_store()


def _made_up(features: dict[str, str]) -> str:
    """Columns of SQL that lean on the risk, each with noise of its own, one in eight null."""
    told = []
    for number, (name, kind) in enumerate(features.items()):
        noise = f"hash(noise + {number}::ubigint) % 1000 / 1000"
        made = {
            "INT64": f"cast(12 * (0.4 * risk + 0.6 * {noise}) as bigint)",
            "DOUBLE": f"round(0.4 * risk + 0.6 * {noise}, 3)",
            "BOOL": f"0.4 * risk + 0.6 * {noise} > 0.5",
            "STRING": "cast(null as varchar)",
        }[kind]
        told.append(f"if({noise} < 0.125, null, {made}) as {name}")
    return ", ".join(told)


def _entities() -> "pl.DataFrame":
    from pipelines.warehouse import connect

    with connect(read_only=True) as con:
        return con.execute(_ENTITIES).pl()


def _ours() -> Any:
    from pipelines.features.retrieval import feature_names, historical

    entities = _entities()
    historical(SERVICE, entities.head(1))
    return lambda: (historical(SERVICE, entities).height, len(feature_names(SERVICE)))


def _stored() -> list[tuple[str, str]]:
    from pipelines.features.retrieval import service_definition

    asked = [ref.split(":") for ref in service_definition(SERVICE).stored]
    return [(view, feature) for view, feature in asked]


def _plain() -> Any:
    from pipelines.features.registry import load_definitions
    from pipelines.settings import get_settings
    from pipelines.warehouse import memory

    entities, stored = _entities().to_arrow(), _stored()
    views = {view: load_definitions().views[view].key for view, _ in stored}
    files = [str(get_settings().features_dir / view / "*" / "*.parquet") for view in views]
    columns = ", ".join(f"{view}.{feature}" for view, feature in stored)
    joins = " ".join(
        f"asof left join (select *, greatest(event_timestamp, created_timestamp) as visible_at "  # noqa: S608
        f"from read_parquet(?)) as {view} on entities.{key} = {view}.{key} "
        f"and entities.event_timestamp >= {view}.visible_at"
        for view, key in views.items()
    )

    def work(frame: Any = entities) -> tuple[int, int]:
        with memory() as con:
            con.register("given", frame)
            # Of a registered table DuckDB does not know the size, and then joins in a loop.
            con.execute("create temp table entities as from given")
            query = f"select entities.*, {columns} from entities {joins}"  # noqa: S608
            return con.execute(query, files).to_arrow_table().num_rows, len(stored)

    work(entities.slice(0, 1))
    return work


def _stock(kind: str) -> Any:
    from feast import FeatureStore

    from pipelines.features.registry import load_definitions
    from pipelines.settings import get_settings

    folder = get_settings().home / kind
    folder.mkdir()
    config = {
        "project": "cardline",
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "entity_key_serialization_version": 3,
        "offline_store": {"type": kind},
        "online_store": {"type": "sqlite", "path": str(folder / "online.db")},
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = FeatureStore(repo_path=str(folder))
    store.apply(list(load_definitions().objects))
    references = [f"{view}:{feature}" for view, feature in _stored()]
    entities: pd.DataFrame = _entities().to_pandas()
    known: dict[str, Any] = {"filter_by_created_timestamp": True} if kind == "duckdb" else {}

    def work(frame: "pd.DataFrame" = entities) -> tuple[int, int]:
        job = store.get_historical_features(frame, references, **known)
        return job.to_arrow().num_rows, len(references)

    work(entities.head(1))
    return work


def _train() -> Any:
    from pipelines.registry_view import list_models
    from pipelines.training import train

    def work() -> tuple[int, int]:
        trained = train("underwriting")
        print(trained.metrics, [model["state"] for model in list_models()], file=sys.stderr)
        return _options().applications, trained.metrics["features"]

    return work


if __name__ == "__main__":
    main()
