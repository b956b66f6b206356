"""The model card: one page that says what a version is for, from what, how good and how sure."""

from collections.abc import Iterable, Mapping
from typing import Any

METRIC_ORDER = (
    "rows",
    "positives",
    "prevalence",
    "auc",
    "gini",
    "ks",
    "average_precision",
    "brier",
    "log_loss",
    "calibration_ratio",
    "ece",
)


def render_card(
    manifest: Mapping[str, Any], metrics: Mapping[str, Any], files: Iterable[str] = ()
) -> str:
    """Markdown from a manifest, its metrics and the names of the files that stand beside it.

    Samples are the sub-tables with `rows`; other sub-tables get a section of their own. Pictures
    (`.svg`) are shown.
    """
    samples = {k: v for k, v in metrics.items() if isinstance(v, Mapping) and "rows" in v}
    lines = [
        f"# {manifest['name']} {manifest['version']}",
        "",
        str(manifest["purpose"]),
        "",
        f"- Target: {manifest['target']}",
        f"- Window: {manifest['window'].get('start')} to {manifest['window'].get('end')}",
        f"- Trained {manifest['trained_at']} by {manifest['trainer']}",
        f"- Data set sha256: `{manifest['dataset_sha256']}`",
        f"- Seed {manifest['seed']}; git {manifest['git_sha'] or 'unknown'}",
        "",
        "## How good",
        "",
        *_metric_table(samples),
        "",
        *_other_metrics(metrics, samples),
        *_sections({k: v for k, v in metrics.items() if k not in samples}),
        *_pictures(files),
        "## Gates",
        "",
        *_pairs(manifest["gates"], "none were evaluated"),
        "",
        "## Features",
        "",
        *[f"- `{name}`" for name in manifest["features"]],
        "",
        "## Left out",
        "",
        *_pairs(manifest["dropped_features"], "nothing"),
        "",
        "## Notes and limits",
        "",
        *([f"- {note}" for note in manifest["notes"]] or ["- none"]),
        "",
        "## Parameters and libraries",
        "",
        *_pairs(manifest["parameters"], "defaults"),
        *_pairs(manifest["libraries"], "unknown"),
        "",
    ]
    return "\n".join(lines)


def _metric_table(samples: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not samples:
        return ["No sample was large enough to measure on."]
    header = "| | " + " | ".join(samples) + " |"
    rows = [header, "|---|" + "---|" * len(samples)]
    measured = {
        metric
        for sample in samples.values()
        for metric, value in sample.items()
        if not isinstance(value, Mapping | list)
    }
    for metric in [*METRIC_ORDER, *sorted(measured.difference(METRIC_ORDER))]:
        cells = " | ".join(_cell(sample.get(metric)) for sample in samples.values())
        rows.append(f"| {metric} | {cells} |")
    return rows


def _other_metrics(metrics: Mapping[str, Any], samples: Mapping[str, Any]) -> list[str]:
    others = {
        k: v for k, v in metrics.items() if k not in samples and not isinstance(v, Mapping | list)
    }
    return [*_pairs(others, ""), ""] if others else []


def _pictures(files: Iterable[str]) -> list[str]:
    shown = [
        f"![{file[:-4].replace('_', ' ').capitalize()}]({file})"
        for file in files
        if file.endswith(".svg")
    ]
    return ["## Plots, out of time", "", *shown, ""] if shown else []


def _sections(metrics: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, table in metrics.items():
        if not isinstance(table, Mapping):
            continue
        lines += [f"## {name.replace('_', ' ').capitalize()}", ""]
        rows = {k: v for k, v in table.items() if isinstance(v, Mapping)}
        plain = {k: v for k, v in table.items() if not isinstance(v, Mapping | list)}
        lines += _pairs(plain, "") if plain else []
        if rows:
            columns = list(dict.fromkeys(c for row in rows.values() for c in row))
            lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
            lines += [
                f"| {label} | " + " | ".join(_cell(row.get(c)) for c in columns) + " |"
                for label, row in rows.items()
            ]
        lines.append("")
    return lines


def _pairs(values: Mapping[str, Any], otherwise: str) -> list[str]:
    return [f"- {k}: {_cell(v)}" for k, v in values.items()] or [f"- {otherwise}"]


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.4f}" if isinstance(value, float) else str(value)
