"""The model registry for `cardline models`."""

from typing import Any

from pipelines.errors import CardlineError

MODELS = ("underwriting", "fraud")
LEAST_POSITIVES = 30
"""With fewer bad rows a rank statistic moves by a tenth when one of them moves."""


def in_words(metrics: dict[str, Any]) -> str:
    """One line on how good a version is, and on how many rows that was measured."""
    names = {"auc": "AUC", "ks": "KS", "average_precision": "AP"}
    names |= {k: k.replace("card_precision_at_", "CP@") for k in metrics if "card_precision" in k}
    measured = [f"{text} {metrics[name]:.3f}" for name, text in names.items() if metrics.get(name)]
    rows, positives = metrics.get("rows") or 0, metrics.get("positives") or 0
    sample = str(metrics["sample"]).replace("_", " ")
    few = ", too few to judge by" if positives < LEAST_POSITIVES else ""
    told = f"{sample}: {rows:,} rows, {positives:,} bad{few}"
    return f"{', '.join(measured) or 'not measured'} ({told})"


def list_models() -> list[dict[str, Any]]:
    """Every version, newest first within its model: name, version, state, trainer, headline."""
    from pipelines.training import headline_metrics, registry

    rows: list[dict[str, Any]] = []
    for version in reversed(registry().list_versions()):
        metrics = headline_metrics(version)
        rows.append(
            {
                "name": version.name,
                "version": version.version,
                "state": version.state,
                "trainer": version.manifest.get("trainer"),
                "metrics": metrics,
                "headline": in_words(metrics),
            }
        )
    return sorted(rows, key=lambda row: row["name"])


def promote(name: str, version: str, approver: str, reason: str) -> str:
    """Make `version` the champion; one line on what was done. Raises `CardlineError` if refused."""
    from models.common.errors import ModelError
    from pipelines.training import registry

    if name not in MODELS:
        raise CardlineError(f"there is no model {name!r}: it is one of {', '.join(MODELS)}")
    try:
        promoted = registry().promote(name, version, approver, reason)
    except ModelError as error:
        raise CardlineError(str(error)) from error
    return f"{promoted.name} {promoted.version} is {promoted.state}, approved by {approver}"
