"""The model registry for `cardline models`."""

from typing import Any

from pipelines.errors import CardlineError

MODELS = ("underwriting", "fraud")
LARGEST_DIFFERENCE = 1e-9
"""Of a probability, between a version and its retraining."""
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
    """Make `version` the champion; one line on what was done. Raises `CardlineError` if refused.

    An underwriting version is first trained again from its manifest and pinned data set: where
    that gives other probabilities, nobody could answer for it later.
    """
    from models.common.errors import ModelError
    from pipelines.training import UNDERWRITING, registry

    if name not in MODELS:
        raise CardlineError(f"there is no model {name!r}: it is one of {', '.join(MODELS)}")
    try:
        if name == UNDERWRITING and registry().get(name, version).state != "CHAMPION":
            _require_reproduction(name, version)
        promoted = registry().promote(name, version, approver, reason)
    except ModelError as error:
        raise CardlineError(str(error)) from error
    return f"{promoted.name} {promoted.version} is {promoted.state}, approved by {approver}"


def _require_reproduction(name: str, version: str) -> None:
    from pipelines.training import reproduction_error

    error = reproduction_error(name, version)
    if error > LARGEST_DIFFERENCE:
        raise CardlineError(
            f"{name} {version} is not promoted: trained again from its manifest its probabilities "
            f"differ by up to {error:.2g}; train a version with the present code and libraries"
        )
