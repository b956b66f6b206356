"""Approvals and scores by group of the version in use."""

import polars as pl

from pipelines.errors import CardlineError
from pipelines.fair_lending.measures import (
    FOUR_FIFTHS,
    WATCH,
    adverse_impact_ratio,
    false_negative_rate,
    standardised_mean_difference,
)
from pipelines.settings import get_settings
from pipelines.warehouse import connect

_DECISIONS = """
select log.application_id, log.score, log.score < log.cutoff_score as is_below_cutoff,
    spine.decision, spine.outcome
from risk.model_decision_log as log
inner join risk.underwriting_spine as spine on log.application_id = spine.application_id
where spine.decision in ('APPROVED', 'COUNTER_OFFER', 'DECLINED')
qualify row_number() over (
    partition by log.application_id order by log.scored_at desc, log.decision_id
) = 1
"""


def compare_groups(reference: str) -> pl.DataFrame:
    """One row per group of `groups.parquet` (application_id, group): counts and measures.

    `air_decisions` compares what was decided, `air_model` what the model's cut-off would decide.
    Raises `CardlineError` while the module is off, without the file, and for an unknown reference.
    """
    folder = get_settings().fair_lending
    if folder is None:
        raise CardlineError("fair-lending monitoring is off: set CARDLINE_FAIR_LENDING to a folder")
    path = folder / "groups.parquet"
    if not path.is_file():
        raise CardlineError(f"{path} is not there: it maps application_id to group")
    groups = pl.read_parquet(path, columns=["application_id", "group"]).unique()
    if groups["group"].has_nulls():
        count = groups["group"].null_count()
        raise CardlineError(f"{path}: {count} applications have no group: give them one")
    repeated = groups.filter(pl.col("application_id").is_duplicated()).sort("application_id")
    if not repeated.is_empty():
        raise CardlineError(f"{path}: {repeated[0, 'application_id']} is in more than one group")
    with connect(read_only=True) as con:
        decisions = con.execute(_DECISIONS).pl()
    parts = decisions.join(groups, on="application_id").partition_by("group", as_dict=True)
    found = {str(key[0]): part for key, part in sorted(parts.items())}
    if reference not in found:
        raise CardlineError(f"no group {reference!r}: there are {', '.join(found) or 'none'}")
    return pl.DataFrame([_row(name, part, found[reference]) for name, part in found.items()])


def _row(name: str, part: pl.DataFrame, reference: pl.DataFrame) -> dict[str, object]:
    counted = [
        (int((p["decision"] != "DECLINED").sum()), int((~p["is_below_cutoff"]).sum()), p.height)
        for p in (part, reference)
    ]
    (approved, above, rows), (other_approved, other_above, other_rows) = counted
    ratio = adverse_impact_ratio(approved, rows, other_approved, other_rows)
    return {
        "group": name,
        "applications": rows,
        "air_decisions": ratio,
        "air_model": adverse_impact_ratio(above, rows, other_above, other_rows),
        "smd_score": standardised_mean_difference(
            part["score"].to_numpy(), reference["score"].to_numpy()
        ),
        "good_below_cutoff": false_negative_rate(
            part["is_below_cutoff"].to_numpy(),
            (part["outcome"] == "GOOD").fill_null(False).to_numpy(),
        ),
        "flag": None
        if ratio is None
        else "below 0.80"
        if ratio < FOUR_FIFTHS
        else "below 0.90"
        if ratio < WATCH
        else "",
    }
