"""Scoring: what the current model version says about applications and transactions.

The champion scores; without one the newest candidate does, and `model_state` says so. The same
version and the same row write nothing new.
"""

import hashlib
import json
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from pipelines.settings import get_settings
from pipelines.training import FRAUD, UNDERWRITING, registry
from pipelines.training_frames import (
    unscored_transactions,
    with_features,
)
from pipelines.warehouse import connect, data_clock, transaction

if TYPE_CHECKING:
    from models.common.registry import ModelVersion

_TABLES = """
create table if not exists risk.scores (
    application_id varchar, account_id varchar, model_name varchar, model_version varchar,
    model_state varchar, pd double, score double, reasons varchar, feature_vector_sha256 varchar,
    as_of_at timestamp, scored_at timestamp
);
create table if not exists risk.model_decision_log (
    decision_id varchar, application_id varchar, account_id varchar, model_name varchar,
    model_version varchar, model_state varchar, feature_service varchar, features varchar,
    feature_vector_sha256 varchar, pd double, score double, cutoff_score double,
    policy_inputs varchar, policy_reasons varchar, reason_method varchar, reasons varchar,
    key_factors varchar, as_of_at timestamp, scored_at timestamp
);
create table if not exists fraud.scores (
    transaction_id varchar, score double, model_version varchar, model_state varchar,
    event_at timestamp, scored_at timestamp
);
create table if not exists fraud.daily_alerts (
    alert_on date, rank bigint, transaction_id varchar, account_id varchar, card_id varchar,
    score double, amount_minor bigint, model_version varchar, reasons varchar
);
alter table fraud.daily_alerts add column if not exists reasons varchar;
"""


def score_applications() -> int:
    """Score every application, or account, that the current version has not scored; returns rows.

    An application is scored as it was known at its decision, which does not change. An account
    (where a source has no applications) is scored as it is known now: its row is replaced when
    its features have changed. Each scoring is appended to `risk.model_decision_log`. Returns 0
    without a model.
    """
    with connect() as con:
        con.execute(_TABLES)
        version = registry().current(UNDERWRITING)
        clock = data_clock(con)
        if version is None or clock is None:
            return 0
        return _score_by_grain(con, version, clock)


def _score_by_grain(
    con: duckdb.DuckDBPyConnection, version: "ModelVersion", clock: datetime
) -> int:
    if version.manifest["context"]["grain"] == "account_id":
        rows = con.execute(
            "select null::varchar as application_id, account_id, ?::timestamp as as_of_at "
            "from marts.dim_accounts where is_current order by account_id",
            [clock],
        ).pl()
    else:
        rows = con.execute(
            """
            select application_id, account_id, decision_at as as_of_at, customer_id, pull_id,
                stated_income_minor, housing_payment_minor, requested_limit_minor
            from risk.underwriting_spine
            where application_id not in (
                select application_id from risk.scores
                where model_version = ? and model_name = ? and application_id is not null
            )
            order by application_id
            """,
            [version.version, version.name],
        ).pl()
    if rows.is_empty():
        return 0
    scored = _scored(version, rows).with_columns(
        pl.lit(version.name).alias("model_name"),
        pl.lit(version.version).alias("model_version"),
        pl.lit(version.state).alias("model_state"),
        pl.lit(clock).alias("scored_at"),
    )
    if version.manifest["context"]["grain"] == "account_id":
        scored = _changed_accounts(con, scored)
    with transaction(con):
        con.execute(
            "delete from risk.scores where model_version = ? and application_id is null "
            "and account_id in (select account_id from scored where application_id is null)",
            [version.version],
        )
        con.execute(
            "insert into risk.scores by name "
            "select * exclude (features, key_factors, policy_inputs, policy_reasons) from scored"
        )
        _log_decisions(con, version, scored)
    return scored.height


def _log_decisions(
    con: duckdb.DuckDBPyConnection, version: "ModelVersion", scored: pl.DataFrame
) -> None:
    """Append what was scored, with the exact vector: reasons can be worked out again from it."""
    reasons = json.loads((version.path / "reasons.json").read_text())
    identity = scored.select(
        pl.concat_str(
            pl.lit(version.version),
            pl.coalesce("application_id", "account_id"),
            pl.col("as_of_at").cast(pl.String),
            "feature_vector_sha256",
            separator="|",
        )
    ).to_series()
    decisions = scored.with_columns(
        pl.Series("decision_id", [hashlib.sha256(i.encode()).hexdigest()[:32] for i in identity]),
        pl.lit(version.manifest["context"]["feature_service"]).alias("feature_service"),
        pl.lit(reasons["cutoff_score"]).alias("cutoff_score"),
        pl.lit(get_settings().reason_method).alias("reason_method"),
    )
    con.register("decisions", decisions)
    con.execute("insert into risk.model_decision_log by name select * from decisions")
    con.unregister("decisions")


def _scored(version: "ModelVersion", rows: pl.DataFrame) -> pl.DataFrame:
    from models.underwriting.policy import POLICY_INPUTS, policy_reasons
    from models.underwriting.scoring import as_json, score_frame, vectors

    model = registry().load(version.name, version.version)
    reasons: dict[str, Any] = json.loads((version.path / "reasons.json").read_text())
    service = version.manifest["context"]["feature_service"]
    frame = with_features(service, rows, "as_of_at")
    return pl.concat(
        [
            rows.select("application_id", "account_id", "as_of_at"),
            score_frame(model, reasons, frame, get_settings().reason_method),
            pl.DataFrame(
                {
                    "policy_inputs": vectors(frame, POLICY_INPUTS),
                    "policy_reasons": [as_json(r) for r in policy_reasons(frame)],
                }
            ),
        ],
        how="horizontal",
    )


def _changed_accounts(con: duckdb.DuckDBPyConnection, scored: pl.DataFrame) -> pl.DataFrame:
    """Accounts whose vector differs from the one that this version scored before."""
    known = con.execute(
        "select account_id, model_version, feature_vector_sha256 from risk.scores "
        "where application_id is null"
    ).pl()
    return scored.join(
        known, on=["account_id", "model_version", "feature_vector_sha256"], how="anti",
        maintain_order="left",
    )  # fmt: skip


def score_transactions(through: date | None = None) -> int:
    """Score transactions from the version's training cut-off on, and choose the daily alerts.

    Earlier transactions are not scored: the version has learned from them. `through` is the last
    day to score (default: the last day in the warehouse). The alerts of a day are those of the
    version that scored it first. Returns the number of new scores; 0 without a model.
    """
    with connect() as con:
        con.execute(_TABLES)
        version = registry().current(FRAUD)
        clock = data_clock(con)
        if version is None or clock is None:
            return 0
        start = datetime.fromisoformat(version.manifest["window"]["cutoff"])
        last = through or clock.date()
        end = datetime.combine(last, datetime.min.time()) + timedelta(days=1)
        rows = unscored_transactions(con, version.version, start, end)
        if rows.is_empty():
            return 0
        model = registry().load(version.name, version.version)
        scored = _scored_transactions(version, model, rows).with_columns(
            pl.lit(version.version).alias("model_version"),
            pl.lit(version.state).alias("model_state"),
            pl.lit(clock).alias("scored_at"),
        )
        new_scores = scored.select(
            "transaction_id", "score", "model_version", "model_state", "event_at", "scored_at"
        )
        with transaction(con):
            con.register("new_scores", new_scores)
            con.execute("insert into fraud.scores by name select * from new_scores")
            con.unregister("new_scores")
            _choose_alerts(con, version.version, model, scored)
    return new_scores.height


def _scored_transactions(version: "ModelVersion", model: Any, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with their features and score."""
    from models.fraud.scoring import score_frame

    frame = with_features(version.manifest["context"]["feature_service"], rows, "event_at")
    return frame.with_columns(score_frame(model, frame))


def _choose_alerts(
    con: duckdb.DuckDBPyConnection, model_version: str, model: Any, scored: pl.DataFrame
) -> None:
    """Choose the alerts of days with new scores, of cards that are not known to be compromised.

    New scores can change the alerts of the newest day only, and there they fill the places that
    another version left. What comes late of an earlier day is alerted with the newest.
    """
    from models.fraud.scoring import daily_alerts

    budget = get_settings().alert_budget_per_day
    approved = _dated(con, model_version, scored.filter(~pl.col("is_declined")))
    approved = approved.join(_compromised(con, approved), on=["alert_on", "card_id"], how="anti")
    con.register("days", approved.select("alert_on").unique())
    earlier = con.execute(
        "select * from fraud.daily_alerts where alert_on in (select alert_on from days)"
    ).pl()
    con.unregister("days")
    others = earlier.filter((pl.col("model_version") != model_version).any().over("alert_on"))
    own = earlier.join(others, on="alert_on", how="anti")
    held = others.group_by("alert_on").agg(pl.len().cast(pl.Int64).alias("held"))
    columns = [
        "alert_on", "transaction_id", "account_id", "card_id", "score", "amount_minor", "reasons",
    ]  # fmt: skip
    fresh = approved.with_columns(pl.lit(None, dtype=pl.String).alias("reasons"))
    fresh = fresh.join(others, on=["alert_on", "card_id"], how="anti")
    candidates = pl.concat([fresh.select(columns), own.select(columns)])
    alerts = (
        daily_alerts(candidates, budget)
        .join(held, on="alert_on", how="left", maintain_order="left")
        .with_columns(pl.col("rank") + pl.col("held").fill_null(0))
        .filter(pl.col("rank") <= budget)
    )
    alerts = _with_reasons(alerts, approved, model).select(
        "alert_on", "rank", "transaction_id", "account_id", "card_id", "score", "amount_minor",
        pl.lit(model_version).alias("model_version"), "reasons",
    )  # fmt: skip
    con.register("rewritten", own.select("transaction_id", "model_version"))
    con.register("new_alerts", alerts)
    con.execute(
        "delete from fraud.daily_alerts where (transaction_id, model_version) in "
        "(select (transaction_id, model_version) from rewritten)"
    )
    con.execute("insert into fraud.daily_alerts by name select * from new_alerts")
    con.unregister("rewritten")
    con.unregister("new_alerts")


def _dated(
    con: duckdb.DuckDBPyConnection, model_version: str, scored: pl.DataFrame
) -> pl.DataFrame:
    """`scored` with `alert_on`, without what another version has scored of days alerted before."""
    dated = scored.with_columns(pl.col("event_at").dt.date().alias("alert_on"))
    span = con.execute("select min(alert_on), max(alert_on) from fraud.daily_alerts").fetchone()
    assert span is not None
    first, newest = span
    if newest is None or dated.is_empty():
        return dated
    con.register("dated", dated.select("transaction_id"))
    seen = con.execute(
        "select transaction_id from fraud.scores where model_version <> ? "
        "and transaction_id in (select transaction_id from dated)",
        [model_version],
    ).pl()
    con.unregister("dated")
    is_over = pl.col("alert_on").is_between(first, newest, closed="left")
    is_seen = pl.col("transaction_id").is_in(seen["transaction_id"].implode())
    latest = pl.lit(max(newest, dated["alert_on"].max()))
    return dated.filter(~(is_over & is_seen)).with_columns(
        pl.when(is_over).then(latest).otherwise("alert_on").alias("alert_on")
    )


def _compromised(con: duckdb.DuckDBPyConnection, dated: pl.DataFrame) -> pl.DataFrame:
    """Cards of `dated` of which a fraud was known when the day began: card_id and alert_on.

    The evaluation leaves them out too; a card of which this is known is not used any more.
    """
    con.register("asked", dated.select("card_id", "alert_on").unique())
    found = con.execute(
        """
        select distinct asked.card_id, asked.alert_on
        from asked
        inner join intermediate.int_authorizations__known as purchases
            on asked.card_id = purchases.card_id and purchases.known_to is null
        inner join intermediate.int_fraud_labels__known as labels
            on purchases.transaction_id = labels.transaction_id
        where labels.is_fraud
            and labels.known_from < asked.alert_on
            and (labels.known_to is null or labels.known_to >= asked.alert_on)
        """
    ).pl()
    con.unregister("asked")
    return found


def _with_reasons(alerts: pl.DataFrame, approved: pl.DataFrame, model: Any) -> pl.DataFrame:
    """`alerts` with the reasons of those that are new, as JSON."""
    from models.fraud.scoring import alert_reasons

    new = approved.join(
        alerts.filter(pl.col("reasons").is_null()),
        on="transaction_id", how="semi", maintain_order="left",
    )  # fmt: skip
    why = new.select("transaction_id").with_columns(
        pl.Series("why", [json.dumps(r) for r in alert_reasons(model, new)], dtype=pl.String)
    )
    return alerts.join(why, on="transaction_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("reasons", "why").alias("reasons")
    )


def alerts_to_review(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The newest day's alerts as a reviewer reads them: who, what, how likely, how much, why.

    Amounts are in minor units; `why` names the largest contributions with the value that they had
    and the one that is typical of a legitimate purchase.
    """
    alerts = con.execute(
        """
        select alerts.rank, alerts.card_id, alerts.account_id, transactions.merchant_id,
            scores.event_at, alerts.amount_minor, round(alerts.score, 4) as score,
            round(alerts.score * alerts.amount_minor)::bigint as expected_loss_minor,
            alerts.reasons, alerts.transaction_id
        from fraud.daily_alerts as alerts
        inner join fraud.scores as scores
            on alerts.transaction_id = scores.transaction_id
                and alerts.model_version = scores.model_version
        left join intermediate.int_authorizations__known as transactions
            on alerts.transaction_id = transactions.transaction_id
                and transactions.known_to is null
        where alerts.alert_on = (select max(alert_on) from fraud.daily_alerts)
        order by alerts.rank
        """
    ).pl()
    why = [_in_words(json.loads(reasons or "[]")) for reasons in alerts["reasons"]]
    return alerts.drop("reasons").insert_column(8, pl.Series("why", why, dtype=pl.String))


def _in_words(reasons: list[dict[str, Any]]) -> str:
    def said(value: float | None) -> str:
        return "unknown" if value is None else f"{value:g}"

    return "; ".join(
        f"{r['feature']} {said(r['value'])} (typical {said(r['typical'])})" for r in reasons
    )
