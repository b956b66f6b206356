"""From warehouse tables to registered versions, scores and alerts, through the feature store."""

import json
import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest

from models.fraud.training import known_fraud
from pipelines.defs.sensors import underwriting_drift_sensor
from pipelines.errors import CardlineError
from pipelines.explanation import explain, in_words
from pipelines.fair_lending.report import compare_groups
from pipelines.features.publish import publish
from pipelines.features.registry import load_definitions
from pipelines.features.retrieval import POLARS_TYPES
from pipelines.monitoring import alerts, monitor
from pipelines.registry_view import list_models, promote
from pipelines.scoring import alerts_to_review, score_applications, score_transactions
from pipelines.settings import get_settings
from pipelines.training import NotDue, is_due, newest, reproduction_error, train
from pipelines.training_frames import labelled_transactions, underwriting_outcomes
from pipelines.warehouse import connect

CLOCK = datetime(2024, 6, 30, 23, 59, 59)
OPENED = datetime(2022, 1, 1)
SPINE = """
create table risk.underwriting_spine (
    application_id varchar, customer_id varchar, person_id varchar, account_id varchar,
    pull_id varchar, decision_at timestamp, stated_income_minor bigint,
    housing_payment_minor bigint, requested_limit_minor bigint, outcome varchar,
    outcome_known_at timestamp, exclusion varchar, decision varchar, decision_source varchar
);
create table marts.fct_credit_outcomes (
    outcome_id varchar, account_id varchar, is_bad boolean, observed_on date, known_at timestamp,
    received_at timestamp
);
create table marts.dim_accounts (
    account_id varchar, customer_id varchar, is_current boolean, opened_on date
);
create table marts.fct_statements (
    account_id varchar, period_end_on date, days_past_due integer
);
create table intermediate.int_authorizations__known (
    transaction_id varchar, event_id varchar, card_id varchar, account_id varchar,
    merchant_id varchar, mcc varchar, merchant_country varchar, device_id varchar,
    ip_hash varchar, event_at timestamp, amount_minor bigint, is_declined boolean,
    entry_mode varchar, is_card_present boolean, latitude double, longitude double,
    known_at timestamp, known_until timestamp, active_from date, known_from date, known_to date
);
create table intermediate.int_fraud_labels__known (
    transaction_id varchar, is_fraud boolean, known_from date, known_to date
);
"""


@pytest.fixture
def lake(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse with empty tables of everything that training reads."""
    with connect() as con:
        con.execute(SPINE)
        con.execute(
            "insert into landing.files (file_id, feed, state, received_at, load_no) "
            "values ('f', 'transactions', 'LOADED', ?, 1)",
            [CLOCK],
        )
        yield con


def fill_features(con: duckdb.DuckDBPyConnection, **views: pl.DataFrame) -> None:
    """Create every feature table, with the given rows in some, and publish them."""
    for name, view in load_definitions().views.items():
        kinds = {view.key: "STRING", **view.features}
        schema = {column: POLARS_TYPES[kind] for column, kind in kinds.items()}
        times = {"event_timestamp": pl.Datetime("us"), "created_timestamp": pl.Datetime("us")}
        frame = pl.DataFrame(schema=schema | times)
        given = views.get(name)
        if given is not None:
            frame = pl.concat([frame, given.cast({c: frame.schema[c] for c in given.columns})],
                              how="diagonal")  # fmt: skip
        con.register("given", frame)
        con.execute(f"create or replace table features.{name} as select * from given")
        con.unregister("given")
    publish(con=con)


def applications(con: duckdb.DuckDBPyConnection, rows: int = 500) -> None:
    """Applications over 20 months whose risk grows with bureau utilisation."""
    generator = np.random.default_rng(0)
    util = generator.random(rows)
    bad = generator.random(rows) < 0.05 + 0.7 * util**2
    at = [OPENED + timedelta(days=int(d)) for d in generator.integers(0, 500, rows)]
    ids = [f"{i:04}" for i in range(rows)]
    spine = pl.DataFrame(
        {
            "application_id": [f"a{i}" for i in ids],
            "customer_id": [f"c{i}" for i in ids],
            "person_id": [f"p{i}" for i in ids],
            "pull_id": [f"pull{i}" for i in ids],
            "decision_at": at,
            "stated_income_minor": generator.integers(3_000_000, 9_000_000, rows),
            "outcome": np.where(bad, "BAD", "GOOD"),
            "outcome_known_at": [t + timedelta(days=366) for t in at],
        }
    )
    con.register("given", spine)
    con.execute("insert into risk.underwriting_spine by name select * from given")
    con.unregister("given")
    fill_features(
        con,
        pull_bureau_features=pl.DataFrame(
            {
                "pull_id": [f"pull{i}" for i in ids],
                "bur_util_rev": util,
                "event_timestamp": [t - timedelta(hours=1) for t in at],
                "created_timestamp": [t - timedelta(hours=1) for t in at],
            }
        ),
    )


def test_underwriting_from_outcomes_to_scores_once(lake: duckdb.DuckDBPyConnection):
    assert not is_due("underwriting")
    assert score_applications() == 0
    applications(lake)
    assert is_due("underwriting")
    first = train("underwriting")
    assert first.state == "CANDIDATE"
    assert first.metrics["auc"] > 0.6
    assert first.metrics["sample"] == "out_of_time"
    assert train("underwriting").version == first.version
    assert not is_due("underwriting")
    assert [m["state"] for m in list_models()] == ["CANDIDATE", "CHALLENGER"]

    assert score_applications() == 500
    assert score_applications() == 0
    scores = lake.execute("select * from risk.scores order by application_id").pl()
    assert scores["model_version"].unique().to_list() == [first.version]
    assert scores["model_state"].unique().to_list() == ["CANDIDATE"]
    assert scores["pd"].is_between(0, 1).all()
    assert scores["feature_vector_sha256"].str.len_bytes().unique().to_list() == [64]
    texts = {r["text"] for reasons in scores["reasons"] for r in json.loads(reasons)}
    assert "Proportion of balances to credit limits on revolving accounts is too high" in texts

    # What was logged is enough to tell why, by either method, after the fact.
    worst = scores.sort("pd")["application_id"][-1]
    told = explain(worst)
    assert told.pd == pytest.approx(scores["pd"].max())
    assert told.reasons == json.loads(scores.sort("pd")["reasons"][-1])
    assert "principal reasons" in in_words(explain(worst, "cutoff")).casefold()
    assert explain(worst, "cutoff").reasons[0]["text"] in in_words(explain(worst, "cutoff"))
    with pytest.raises(CardlineError, match="no score"):
        explain("nobody")
    lake.execute(
        "update risk.model_decision_log set features = replace(features, '0.', '0.1') "
        "where application_id = ?",
        [worst],
    )
    with pytest.raises(CardlineError, match="does not give its logged score"):
        explain(worst)

    # A new application is scored alone, after the promotion under the champion's flag.
    promote("underwriting", first.version, "chief risk officer", "first model")
    lake.execute(
        "insert into risk.underwriting_spine (application_id, decision_at) values ('new', ?)",
        [CLOCK],
    )
    assert score_applications() == 1
    assert lake.execute(
        "select model_state from risk.scores where application_id = 'new'"
    ).fetchall() == [("CHAMPION",)]


def test_a_version_is_trained_again_from_its_pinned_data_set(
    lake: duckdb.DuckDBPyConnection, home: Path, monkeypatch: pytest.MonkeyPatch
):
    applications(lake)
    train("underwriting")
    for model in list_models():
        assert reproduction_error("underwriting", model["version"]) <= 1e-9
    candidate = next(m["version"] for m in list_models() if m["state"] == "CANDIDATE")
    shadow = next(m["version"] for m in list_models() if m["state"] == "CHALLENGER")
    with pytest.raises(CardlineError, match="beats the scorecard's by"):
        promote("underwriting", shadow, "chief risk officer", "newer")

    # A training that was killed after the retrieval goes on from the pinned data set.
    shutil.rmtree(home / "models" / "underwriting" / candidate)
    (home / "models" / "underwriting" / "states.json").unlink()
    monkeypatch.setattr("pipelines.training_sets.with_features", None)
    assert train("underwriting").version == candidate

    (data,) = (home / "models" / "underwriting" / "datasets").iterdir()
    rows = pl.read_parquet(data)
    rows.with_columns((1 - pl.col("is_bad")).alias("is_bad")).write_parquet(data)
    with pytest.raises(CardlineError, match="not that of its manifest"):
        promote("underwriting", candidate, "chief risk officer", "first model")
    data.unlink()
    with pytest.raises(CardlineError, match="not kept"):
        promote("underwriting", candidate, "chief risk officer", "first model")


def test_monitoring_tells_shifted_scores_and_vintages_with_early_bads(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert monitor().is_empty()
    applications(lake)
    train("underwriting")
    # A good vintage of the development months, a bad one after them, one too young to tell.
    for month, opened, bads in (("2022-06", 100, 5), ("2023-10", 100, 20), ("2024-06", 100, 99)):
        lake.execute(
            "insert into marts.dim_accounts select ? || i, ? || i, true, (? || '-01')::date "
            "from range(?) as t(i)",
            [month, month, month, opened],
        )
        lake.execute(
            "insert into marts.fct_statements select ? || i, (? || '-20')::date, "
            "case when i < ? then 45 else 0 end from range(?) as t(i)",
            [month, month, bads, opened],
        )
    # Sixty applications in one month of which nothing is known: no bureau file arrived.
    lake.execute(
        "insert into risk.underwriting_spine (application_id, decision_at, decision) "
        "select 'new' || i, ?, if(i < 45, 'APPROVED', 'DECLINED') from range(60) as t(i)",
        [CLOCK],
    )
    score_applications()
    first = monitor()
    assert monitor().equals(first)
    told = {(r["measure"], r["subject"], r["month"]) for r in alerts().to_dicts()}
    assert ("ever_30_at_3", "", "2023-10") in told
    assert ("csi", "bur_util_rev", "2024-06") in told
    assert not {month for measure, _, month in told if measure == "ever_30_at_3"} - {"2023-10"}
    assert first.filter(pl.col("month") == "2024-06", pl.col("measure") == "approval_rate")[
        "value"
    ].to_list() == [0.75]
    asked = _asked_by_drift()
    assert underwriting_drift_sensor.job_name == "underwriting_retrain"
    assert asked.run_key == f"{newest('underwriting').version}:2024-06"

    with pytest.raises(CardlineError, match="off"):
        compare_groups("a")
    groups = [{"application_id": f"new{i}", "group": "a" if i < 30 else "b"} for i in range(60)]
    pl.DataFrame(groups).write_parquet(tmp_path / "groups.parquet")
    monkeypatch.setenv("CARDLINE_FAIR_LENDING", str(tmp_path))
    get_settings.cache_clear()
    compared = compare_groups("a").to_dicts()
    assert [row["air_decisions"] for row in compared] == [1.0, 0.5]
    assert compared[1]["flag"] == "below 0.80"
    for row, says in (
        ({"application_id": "other", "group": None}, "1 applications have no group"),
        ({"application_id": "new0", "group": "b"}, "new0 is in more than one group"),
    ):
        pl.DataFrame([*groups, row]).write_parquet(tmp_path / "groups.parquet")
        with pytest.raises(CardlineError, match=says):
            compare_groups("a")


def _asked_by_drift() -> dg.RunRequest:
    """What the sensor asks for when a run of its job has ended well."""

    @dg.job
    def scores_refresh() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        ended = scores_refresh.execute_in_process(instance=instance)
        context = dg.build_run_status_sensor_context(
            underwriting_drift_sensor.name,
            ended.get_run_success_event(),
            instance,
            ended.dagster_run,
        )
        asked = underwriting_drift_sensor(context)
    assert isinstance(asked, dg.RunRequest)
    return asked


def test_an_outcome_known_later_and_exclusions_do_not_teach(lake: duckdb.DuckDBPyConnection):
    applications(lake, rows=50)
    lake.execute("update risk.underwriting_spine set exclusion = 'FRAUD' where person_id = 'p0001'")
    lake.execute(
        "update risk.underwriting_spine set outcome_known_at = ? where person_id = 'p0002'",
        [CLOCK + timedelta(seconds=1)],
    )
    found = underwriting_outcomes(lake, CLOCK)
    assert found.grain == "application_id"
    persons = set(found.frame["person"])
    assert len(persons) == 48
    assert not persons & {"p0001", "p0002"}
    assert found.population["EXCLUDED_FRAUD"] == 1
    assert found.population["NO_OUTCOME_YET"] == 1
    with pytest.raises(NotDue, match="matured outcomes"):
        train("underwriting")
    assert newest("underwriting") is None


def test_accounts_are_learned_from_where_there_are_no_applications(
    lake: duckdb.DuckDBPyConnection,
):
    generator = np.random.default_rng(1)
    rows = 600
    late = generator.integers(0, 4, rows)
    month_end = datetime(2024, 5, 1)
    accounts = [f"acc{i:04}" for i in range(rows)]
    outcomes = pl.DataFrame(
        {
            "outcome_id": accounts,
            "account_id": accounts,
            "is_bad": generator.random(rows) < 0.05 + 0.2 * late,
            "observed_on": [datetime(2024, 5, 31).date()] * rows,
            "known_at": [datetime(2024, 6, 1)] * rows,
            "received_at": [datetime(2024, 6, 1)] * rows,
        }
    )
    lake.register("given", outcomes)
    lake.execute("insert into marts.fct_credit_outcomes by name select * from given")
    lake.execute(
        "insert into marts.dim_accounts select account_id, account_id, true, null from given"
    )
    lake.unregister("given")
    features = pl.DataFrame(
        {
            "account_id": accounts,
            "beh_missed_6m_n": late,
            "event_timestamp": [month_end] * rows,
            "created_timestamp": [month_end] * rows,
        }
    )
    # What became known in the month of the outcome must not be looked at: it is the outcome.
    leak = outcomes.select(
        "account_id",
        pl.col("is_bad").cast(pl.Int64).mul(9).alias("beh_missed_6m_n"),
        pl.lit(datetime(2024, 5, 20)).alias("event_timestamp"),
        pl.lit(datetime(2024, 5, 20)).alias("created_timestamp"),
    )
    fill_features(lake, account_payment_features=pl.concat([features, leak], how="diagonal"))
    trained = train("underwriting")
    assert 0.6 < trained.metrics["auc"] < 0.9
    assert trained.metrics["sample"] == "holdout"
    assert score_applications() == rows
    assert score_applications() == 0
    lake.execute(
        "update features.account_payment_features set beh_missed_6m_n = 7 "
        "where account_id = 'acc0000'"
    )
    publish(con=lake)
    assert score_applications() == 1
    assert lake.execute(
        "select count(*), count(distinct account_id) from risk.scores"
    ).fetchone() == (rows, rows)


def test_fraud_from_labels_to_alerts_once(lake: duckdb.DuckDBPyConnection):
    known, labels = purchases_and_frauds()
    lake.register("known", known)
    lake.register("labels", labels)
    lake.execute("insert into intermediate.int_authorizations__known by name select * from known")
    lake.execute("insert into intermediate.int_fraud_labels__known by name select * from labels")
    fill_features(lake)

    assert is_due("fraud")
    assert score_transactions() == 0
    trained = train("fraud")
    assert trained.metrics["average_precision"] > 0.2
    assert not is_due("fraud")
    cutoff = newest("fraud")
    assert cutoff is not None
    written = score_transactions()
    assert 0 < written < known.height
    assert score_transactions() == 0
    alerts = lake.execute("select * from fraud.daily_alerts order by alert_on, rank").pl()
    assert alerts.group_by("alert_on").agg(pl.len().alias("n"), pl.col("rank").max()).filter(
        (pl.col("n") != pl.col("rank")) | (pl.col("n") > 100)
    ).is_empty()  # fmt: skip
    reasons = [json.loads(row) for row in alerts["reasons"]]
    assert all(r["adds"] > 0 for row in reasons for r in row)
    assert reasons[0][0]["feature"] == "amount_minor"
    page = alerts_to_review(lake)
    assert page["rank"].to_list() == list(range(1, page.height + 1))
    assert page["why"][0].startswith("amount_minor ")
    declined = set(known.filter(pl.col("is_declined"))["transaction_id"])
    assert not declined & set(alerts["transaction_id"])

    spared = compromised(known.filter(pl.col("active_from") >= cutoff_day(lake)), known, labels)
    assert spared.height > 10
    of_alerts = compromised(alerts.rename({"alert_on": "active_from"}), known, labels)
    assert of_alerts.is_empty()

    # What is told late of a day with alerts joins the newest day's; other days stay as they were.
    buy(lake, "late", at_noon(alerts))
    assert score_transactions() == 1
    after = lake.execute("select * from fraud.daily_alerts order by alert_on, rank").pl()
    others = pl.col("alert_on") != alerts["alert_on"].max()
    assert after.filter(others).equals(alerts.filter(others))
    assert "late" in after.filter(~others)["transaction_id"].to_list()

    # Where an earlier version alerted the newest day, too; what that one found stays.
    for table in ("fraud.scores", "fraud.daily_alerts"):
        lake.execute(f"update {table} set model_version = 'v0' where model_version is not null")
    before = lake.execute("select * from fraud.daily_alerts order by alert_on, rank").pl()
    lake.execute("update intermediate.int_authorizations__known set is_declined = true "
                 "where transaction_id <> 'later'")  # fmt: skip
    buy(lake, "later", at_noon(alerts))
    assert score_transactions() > 0
    after = lake.execute("select * from fraud.daily_alerts order by alert_on, rank").pl()
    fresh = after.filter(pl.col("transaction_id") == "later")
    assert fresh["rank"].to_list() == [before.filter(~others).height + 1]
    assert after.filter(pl.col("transaction_id") != "later").equals(before)


def test_what_is_known_of_a_fraud_later_changes_nothing_before(lake: duckdb.DuckDBPyConnection):
    told = [("t", True, date(2024, 3, 1), date(2024, 3, 10)),
            ("t", False, date(2024, 3, 10), date(2024, 8, 1)),
            ("t", True, date(2024, 8, 1), None), ("old", True, date(2023, 6, 1), None)]  # fmt: skip
    names = ["transaction_id", "is_fraud", "known_from", "known_to"]
    lake.register("told", pl.DataFrame(told, schema=names, orient="row"))
    lake.execute("insert into intermediate.int_fraud_labels__known by name select * from told")
    buy(lake, "t", datetime(2024, 2, 20, 12))
    buy(lake, "old", datetime(2023, 5, 1, 12))
    lake.execute("update intermediate.int_authorizations__known set card_id = 'c'")

    def rows() -> pl.DataFrame:
        start, end = datetime(2024, 1, 1), datetime(2024, 9, 1)
        return labelled_transactions(lake, start, end, sampled_until=start, maximum_negatives=9)

    def held(month: int) -> list[int]:
        return known_fraud(rows(), datetime(2024, month, 5)).tolist()

    assert [held(month) for month in (2, 3, 6, 8)] == [[0], [1], [0], [1]]
    # The card was compromised before the first of these rows.
    assert rows()["card_compromised_at"].to_list() == [datetime(2023, 6, 2)]
    lake.execute("delete from intermediate.int_fraud_labels__known where known_from > '2024-06-01'")
    lake.execute("update intermediate.int_fraud_labels__known set known_to = null "
                 "where known_to > '2024-06-01'")  # fmt: skip
    assert [held(month) for month in (2, 3, 6)] == [[0], [1], [0]]


def purchases_and_frauds() -> tuple[pl.DataFrame, pl.DataFrame]:
    """4,000 authorizations of 70 days and what is known of them, half of the large ones frauds."""
    generator = np.random.default_rng(2)
    rows, days = 4000, 70
    first = datetime(2024, 4, 22)
    at = [first + timedelta(seconds=int(s)) for s in generator.integers(0, days * 86_400, rows)]
    large = generator.random(rows) < 0.1
    fraud = generator.random(rows) < np.where(large, 0.5, 0.002)
    ids = [f"t{i:05}" for i in range(rows)]
    known = pl.DataFrame(
        {
            "transaction_id": ids,
            "event_id": ids,
            "card_id": [f"card{i}" for i in generator.integers(0, 900, rows)],
            "account_id": [f"acc{i}" for i in generator.integers(0, 900, rows)],
            "merchant_id": ["m"] * rows,
            "amount_minor": np.where(large, 50_000, 2_000) + generator.integers(0, 500, rows),
            "is_declined": generator.random(rows) < 0.02,
            "active_from": [t.date() for t in at],
            "known_from": [t.date() for t in at],
            "event_at": at,
        }
    )
    labels = pl.DataFrame(
        {
            "transaction_id": [i for i, f in zip(ids, fraud, strict=True) if f],
            "is_fraud": True,
            "known_from": [
                (t + timedelta(days=4)).date() for t, f in zip(at, fraud, strict=True) if f
            ],
        }
    )
    return known, labels


def compromised(rows: pl.DataFrame, known: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Those of `rows` of cards of which a fraud was known when the day began."""
    first = (
        known.select("transaction_id", "card_id")
        .join(labels, on="transaction_id")
        .group_by("card_id")
        .agg(pl.col("known_from").min().alias("fraud_known_from"))
    )
    joined = rows.join(first, on="card_id")
    return joined.filter(pl.col("fraud_known_from") < pl.col("active_from"))


def cutoff_day(lake: duckdb.DuckDBPyConnection) -> date:
    """The first day that is scored."""
    [(day,)] = lake.execute("select min(event_at)::date from fraud.scores").fetchall()
    return day


def buy(lake: duckdb.DuckDBPyConnection, name: str, at: datetime) -> None:
    """Another purchase of much, with a card of its own."""
    lake.execute(
        "insert into intermediate.int_authorizations__known by name select "
        "$name as transaction_id, $name as event_id, $name as card_id, 'acc' as account_id, "
        "'m' as merchant_id, 90000 as amount_minor, false as is_declined, $at as event_at, "
        "$at::date as active_from, $at::date as known_from",
        {"name": name, "at": at},
    )


def at_noon(alerts: pl.DataFrame) -> datetime:
    """Of the first day with alerts."""
    day = alerts["alert_on"].min()
    return datetime.combine(day, datetime.min.time()) + timedelta(hours=12)  # pyright: ignore
