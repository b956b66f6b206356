"""What becomes of the underwriting model in use: stability, early bads by vintage, overrides.

Everything is worked out anew from the decision log and the marts, so that running it twice, or
after late rows, gives the same table.
"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from pipelines.training import UNDERWRITING, registry
from pipelines.warehouse import connect, data_clock, transaction

if TYPE_CHECKING:
    from models.common.registry import ModelVersion

LEAST_ROWS = 50
"""A month or vintage with fewer rows is shown and not judged."""
CHANCE = 0.01
"""An alert is what chance alone would bring once in a hundred months."""
EARLY = (("ever_30_at_3", 30, 3), ("ever_60_at_6", 60, 6))
_TABLE = """
create table if not exists risk.monitoring (
    model_version varchar, month varchar, measure varchar, subject varchar, value double,
    expected double, row_count bigint, status varchar, detail varchar
)
"""
_LOGGED = """
select log.score, log.features, log.reasons, log.cutoff_score, log.policy_reasons, spine.decision,
    strftime(coalesce(spine.decision_at, log.as_of_at), '%Y-%m') as month
from risk.model_decision_log as log
left join risk.underwriting_spine as spine on log.application_id = spine.application_id
where log.model_name = ? and log.model_version = ?
order by log.decision_id
"""
_EARLY_BADS = """
with vintages as (
    select accounts.account_id, strftime(accounts.opened_on, '%Y-%m') as month,
        coalesce(max(statements.days_past_due), 0) >= ? as is_bad
    from marts.dim_accounts as accounts
    inner join marts.fct_statements as statements
        on accounts.account_id = statements.account_id
            and statements.period_end_on <= accounts.opened_on + to_months(?)
    where accounts.is_current and accounts.opened_on + to_months(?) < ?::date
    group by accounts.account_id, accounts.opened_on
)
select month, count(*)::bigint as row_count, count(*) filter (where is_bad)::bigint as bads
from vintages
group by month
order by month
"""


def monitor() -> pl.DataFrame:
    """Rewrite `risk.monitoring` for the version in use; its rows, empty without a model or clock.

    `value` is an index (`score_psi`, `csi`) or a share; `expected` is what it is judged against;
    `status` is OK, WATCH, ALERT, FEW (rows) or INFO, and `detail` says why.
    """
    with connect() as con:
        con.execute(_TABLE)
        version, clock = registry().current(UNDERWRITING), data_clock(con)
        if version is None or clock is None:
            return con.execute("select * from risk.monitoring limit 0").pl()
        found = [*_of_scores(con, version), *_of_vintages(con, version, clock)]
        schema = con.execute("select * exclude (model_version) from risk.monitoring limit 0").pl()
        rows = pl.DataFrame(found, schema=schema.schema, orient="row").with_columns(
            pl.lit(version.version).alias("model_version")
        )
        with transaction(con):
            con.execute("delete from risk.monitoring where model_version = ?", [version.version])
            con.register("monitored", rows)
            con.execute("insert into risk.monitoring by name select * from monitored")
            con.unregister("monitored")
    return rows


def alerts() -> pl.DataFrame:
    """What stands out in the latest month of each measure, and every vintage with an alert."""
    with connect(read_only=True) as con:
        version = registry().current(UNDERWRITING)
        return con.execute(
            """
            select model_version, month, measure, subject, value, expected, detail
            from risk.monitoring
            where model_version = ? and status = 'ALERT'
            qualify measure like 'ever_%' or month = max(month) over (partition by measure)
            order by month, measure, subject
            """,
            [version.version if version else ""],
        ).pl()


Row = tuple[str, str, str, float | None, float | None, int, str, str]


def _of_scores(con: duckdb.DuckDBPyConnection, version: "ModelVersion") -> list[Row]:
    logged = con.execute(_LOGGED, [version.name, version.version]).pl()
    if logged.is_empty():
        return []
    bins = version.metrics["stability_bins"]
    vectors = logged["features"].str.json_decode(
        pl.Struct({name: pl.Float64 for name in bins["features"]})
    )
    frame = logged.with_columns(vectors.alias("vector")).unnest("vector")
    months = frame.partition_by("month", as_dict=True, include_key=True)
    rows: list[Row] = []
    for (month,), part in sorted(months.items(), key=lambda item: str(item[0][0])):
        name = str(month)
        rows.append(_index(name, "score_psi", "score", bins["score"], part["score"]))
        rows += [
            _index(name, "csi", feature, fixed, part[feature])
            for feature, fixed in bins["features"].items()
        ]
        rows += _of_decisions(name, part)
    return rows


def _index(month: str, measure: str, subject: str, fixed: dict[str, Any], values: pl.Series) -> Row:
    from models.common.evaluation import SHIFTED, STABLE, FixedBins

    bins = FixedBins(tuple(fixed["edges"]), tuple(fixed["expected"]))
    index = bins.psi(values.cast(pl.Float64).fill_null(float("nan")).to_numpy()).value
    if len(values) < LEAST_ROWS:
        status, detail = "FEW", f"fewer than {LEAST_ROWS} rows"
    elif index >= SHIFTED:
        status, detail = "ALERT", "distributed otherwise than in development"
    elif index >= STABLE:
        status, detail = "WATCH", "begins to differ from development"
    else:
        status, detail = "OK", ""
    return (month, measure, subject, index, SHIFTED, len(values), status, detail)


def _of_decisions(month: str, part: pl.DataFrame) -> list[Row]:
    """Approval rate, approvals below the model's cut-off (overrides), and first reasons."""
    decided = part.filter(pl.col("decision").is_in(["APPROVED", "COUNTER_OFFER", "DECLINED"]))
    approved = decided.filter(pl.col("decision") != "DECLINED")
    below = approved.filter(pl.col("score") < pl.col("cutoff_score")).height
    rows: list[Row] = []
    if decided.height:
        share = approved.height / decided.height
        rows.append((month, "approval_rate", "", share, None, decided.height, "INFO", ""))
    if approved.height:
        share = below / approved.height
        told = "approved below the model's cut-off"
        rows.append((month, "override_rate", "", share, None, approved.height, "INFO", told))
    first = [reasons[0]["code"] for reasons in map(json.loads, part["reasons"]) if reasons]
    counts = pl.Series("code", first, dtype=pl.String).value_counts(sort=True).sort("code")
    rows += [
        (month, "first_reason", code, count / len(first), None, len(first), "INFO", "")
        for code, count in counts.rows()
    ]
    return rows


def _of_vintages(
    con: duckdb.DuckDBPyConnection, version: "ModelVersion", clock: datetime
) -> list[Row]:
    """Early bads per vintage, against those of the vintages that the version learned from."""
    from scipy.stats import binom

    learned_through = version.manifest["window"]["decisions_through"][:7]
    rows: list[Row] = []
    for measure, days, months in EARLY:
        found = con.execute(_EARLY_BADS, [days, months, months, clock]).pl()
        known = found.filter(pl.col("month") <= learned_through)
        if not known["row_count"].sum():
            continue
        expected = float(known["bads"].sum()) / float(known["row_count"].sum())
        for month, count, bads in found.rows():
            chance = float(binom.sf(bads - 1, count, expected))
            if month <= learned_through:
                status, detail = "INFO", "the model learned from it"
            elif count < LEAST_ROWS:
                status, detail = "FEW", f"fewer than {LEAST_ROWS} accounts"
            elif chance < CHANCE:
                status = "ALERT"
                detail = (
                    f"{bads} of {count} are bad early; chance alone would do so in {chance:.2%}"
                )
            else:
                status, detail = "OK", ""
            rows.append((month, measure, "", bads / count, expected, count, status, detail))
    return rows
