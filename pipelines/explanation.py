"""Why an application was scored as it was, in words, worked out again from the logged vector."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.errors import CardlineError
from pipelines.training import registry
from pipelines.warehouse import connect, has_table

if TYPE_CHECKING:
    from models.common.registry import ModelVersion

_LOGGED = """
select log.* exclude (model_state), spine.decision, spine.decision_source, spine.decision_at
from risk.model_decision_log as log
left join risk.underwriting_spine as spine on log.application_id = spine.application_id
where coalesce(log.application_id, log.account_id) = ?
order by log.scored_at desc, log.as_of_at desc, log.decision_id
limit 1
"""


@dataclass(frozen=True)
class Explanation:
    """The newest scoring of an application or account.

    `reasons` are Reg B principal reasons by `method` (policy before score), `key_factors` those of
    a score disclosure, `range` the lowest and highest score that there can be;
    `values` maps the features that a reason names to what was known.
    """

    id: str
    model_version: str
    state: str
    decision: str | None
    pd: float
    score: float
    cutoff_score: float
    range: tuple[float, float]
    as_of_at: str
    method: str
    reasons: list[dict[str, Any]]
    key_factors: list[dict[str, Any]]
    values: dict[str, float | None]
    is_policy: bool


def explain(entity_id: str, method: str | None = None) -> Explanation:
    """Explain the newest logged scoring of `entity_id`, by `method` or as it was logged.

    The model is loaded and asked again: probability and reasons come from the logged vector.
    Raises `CardlineError` for an id without a score, for an unknown method, and where the logged
    vector is not the one that its fingerprint was taken of or gives another probability.
    """
    from models.common.dataset import matrix, vector_sha256
    from models.underwriting.scorecard import REASON_METHODS
    from models.underwriting.scoring import as_json, key_factors, row_reasons

    logged = _logged(entity_id)
    asked = method or logged["reason_method"]
    if asked not in REASON_METHODS:
        raise CardlineError(f"no method {asked!r}: it is one of {', '.join(REASON_METHODS)}")
    version = registry().get(logged["model_name"], logged["model_version"])
    model = registry().load(version.name, version.version)
    table = json.loads((version.path / "reasons.json").read_text())
    vector = json.loads(logged["features"])
    frame = pl.DataFrame([vector], schema=dict.fromkeys(vector, pl.Float64))
    values = matrix(frame, model.inputs_)
    probability = float(model.predict_proba(values)[0, 1])
    is_same = vector_sha256(frame, model.features_)[0] == logged["feature_vector_sha256"]
    if not is_same or abs(probability - logged["pd"]) > 1e-9:
        raise CardlineError(f"the logged vector of {entity_id} does not give its logged score")
    policy = json.loads(logged["policy_reasons"])
    scored = json.loads(as_json(row_reasons(model, table, values, asked)[0]))
    said = {reason["text"] for reason in policy}
    reasons = [*policy, *(r for r in scored if r["text"] not in said)][:4]
    factors = json.loads(as_json(key_factors(model, table, values)[0]))
    known = json.loads(logged["policy_inputs"]) | vector
    named = dict.fromkeys(r["feature"] for r in [*reasons, *factors])
    return Explanation(
        id=entity_id,
        model_version=f"{version.name} {version.version}",
        state=version.state,
        decision=logged["decision"],
        pd=probability,
        score=logged["score"],
        cutoff_score=logged["cutoff_score"],
        range=_range(version, model, logged["score"]),
        as_of_at=str(logged["as_of_at"]),
        method=asked,
        reasons=reasons,
        key_factors=factors,
        values={f: known[f] for f in named if f in known},
        is_policy=bool(policy),
    )


def _range(version: "ModelVersion", model: Any, score: float) -> tuple[float, float]:
    """The least and the most that can be scored; of a model whose bounds are not known, what has
    been."""
    if hasattr(model, "points_"):
        return (
            float(sum(points.min() for points in model.points_)),
            float(sum(points.max() for points in model.points_)),
        )
    edges = version.metrics["curves"]["development"]["histogram"]["edges"]
    return min(edges[0], score), max(edges[-1], score)


def _logged(entity_id: str) -> dict[str, Any]:
    with connect(read_only=True) as con:
        is_there = has_table(con, "risk", "model_decision_log")
        rows = con.execute(_LOGGED, [entity_id]).pl().to_dicts() if is_there else []
    if not rows:
        raise CardlineError(
            f"{entity_id} has no score: no model was trained, or there is no such application"
        )
    return rows[0]


def in_words(found: Explanation) -> str:
    """The explanation as plain lines for a person."""
    against = {
        "average": "the average of all applicants",
        "cutoff": "applicants at or slightly above the cut-off",
        "maximum": "the best there is",
    }[found.method]
    side = "below" if found.score < found.cutoff_score else "at or above"
    decision = f"; the decision was {found.decision}" if found.decision else ""
    lines = [
        f"{found.id}, as known at {found.as_of_at}{decision}",
        f"{found.model_version} ({found.state}) gives a probability of {found.pd:.2%} to turn out "
        f"bad: score {found.score:.0f}, {side} the model's cut-off of {found.cutoff_score:.0f}.",
    ]
    if found.is_policy:
        lines.append("It does not pass the ability-to-pay rule, which stands before the score.")
    lines.append(f"Principal reasons, against {against}:")
    lines += _told(found.reasons, found.values) or ["  none: nothing scored lower than theirs"]
    lines.append(
        f"Key factors of the score (it ranges from {found.range[0]:.0f} to {found.range[1]:.0f}):"
    )
    lines += _told(found.key_factors, found.values) or ["  none: the score is the best there is"]
    return "\n".join(lines)


def _told(reasons: list[dict[str, Any]], values: dict[str, float | None]) -> list[str]:
    lines = []
    for i, reason in enumerate(reasons, start=1):
        value = values.get(reason["feature"])
        known = "not known" if value is None else f"{value:,.6g}"
        cost = f"{reason['points_lost']:.1f} points, " if reason["points_lost"] else "policy, "
        lines.append(f"  {i}. {reason['text']} ({cost}{reason['feature']} = {known})")
    return lines
