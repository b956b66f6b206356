"""The model registry as the command line shows it."""

from typing import Any

from pipelines.errors import CardlineError
from pipelines.training import headline_metrics, registry


def list_models() -> list[dict[str, Any]]:
    """One row per registered version, newest first: name, version, state, headline and metrics."""
    rows = [
        {
            "name": version.name,
            "version": version.version,
            "state": version.state,
            "headline": _headline(metrics := headline_metrics(version)),
            "metrics": metrics,
            "trainer": version.manifest["trainer"],
            "trained_at": version.manifest["trained_at"],
            "gates": version.manifest["gates"],
        }
        for version in registry().list_versions()
    ]
    return rows[::-1]


def promote(name: str, version: str, approver: str, reason: str) -> str:
    """Make a version the champion; returns one line that says so.

    Raises `CardlineError` where the approver trained it, a gate failed or it does not exist.
    """
    from models.common.errors import ModelError

    try:
        promoted = registry().promote(name, version, approver, reason)
    except ModelError as error:
        raise CardlineError(str(error)) from error
    return f"{promoted.name} {promoted.version} is the {promoted.state}"


def _headline(metrics: dict[str, Any]) -> str:
    shown = {"AUC": "auc", "KS": "ks", "AP": "average_precision"}
    parts = [f"{k} {metrics[v]:.3f}" for k, v in shown.items() if metrics.get(v) is not None]
    parts.append(metrics["sample"].replace("_", " "))
    if metrics["gates_failed"]:
        parts.append(f"{metrics['gates_failed']} gates failed")
    return ", ".join(parts)
