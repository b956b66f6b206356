"""The model registry for `cardline models`."""

from typing import Any

from pipelines.errors import CardlineError


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
                "headline": ", ".join(
                    f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in list(metrics.items())[:4]
                ),
            }
        )
    return sorted(rows, key=lambda row: row["name"])


def promote(name: str, version: str, approver: str, reason: str) -> str:
    """Make `version` the champion; one line on what was done. Raises `CardlineError` if refused."""
    from models.common.errors import ModelError
    from pipelines.training import registry

    try:
        promoted = registry().promote(name, version, approver, reason)
    except ModelError as error:
        raise CardlineError(str(error)) from error
    return f"{promoted.name} {promoted.version} is {promoted.state}, approved by {approver}"
