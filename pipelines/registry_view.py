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
    from models.common.errors import ModelError
    from pipelines.training import headline_metrics, registry

    models, rows = registry(), []
    for name in models.names():
        for version, state in reversed(models.states(name).items()):
            try:
                found = models.get(name, version)
            except ModelError as error:
                told = {"trainer": None, "metrics": {}, "headline": str(error)}
            else:
                metrics = headline_metrics(found)
                told = {
                    "trainer": found.manifest.get("trainer"),
                    "metrics": metrics,
                    "headline": in_words(metrics),
                }
            rows.append({"name": name, "version": version, "state": state, **told})
    return rows


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


def retire(name: str, version: str, approver: str, reason: str) -> str:
    """Take `version` out of use; one line on what is in force then."""
    from models.common.errors import ModelError
    from pipelines.training import registry

    try:
        current = registry().retire(name, version, approver, reason)
    except ModelError as error:
        raise CardlineError(str(error)) from error
    now = f"{current.version} ({current.state}) scores" if current else "no version scores"
    return f"{name} {version} is RETIRED; {now} from now on"


def _require_reproduction(name: str, version: str) -> None:
    from pipelines.training import reproduction_error

    error = reproduction_error(name, version)
    if error > LARGEST_DIFFERENCE:
        raise CardlineError(
            f"{name} {version} is not promoted: trained again from its manifest its probabilities "
            f"differ by up to {error:.2g}; train a version with the present code and libraries"
        )
