"""The model card: one page that says what a version is for, from what, how good and how sure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LABELS = {
    "rows": "rows",
    "positives": "positives",
    "prevalence": "share of positives",
    "auc": "AUC",
    "gini": "Gini (2 AUC − 1)",
    "ks": "KS",
    "average_precision": "average precision",
    "brier": "Brier score",
    "log_loss": "log loss",
    "calibration_ratio": "expected over observed positives",
    "ece": "expected calibration error",
}
METRIC_ORDER = tuple(LABELS)
DRAWN = ("curves", "stability_bins")
"""Of the metrics: what the validation report draws, and monitoring compares with."""


def card_content(
    manifest: Mapping[str, Any], metrics: Mapping[str, Any], reasons: Mapping[str, Any]
) -> dict[str, Any]:
    """The card for a program to read: the manifest, its metrics without curves, its reasons."""
    told = {name: value for name, value in metrics.items() if name not in DRAWN}
    return {**manifest, "metrics": told, "reasons": reasons}


def render_card(
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    reasons: Mapping[str, Any],
    files: Iterable[str] = (),
) -> str:
    """Markdown from a manifest, its metrics, its reasons and the names of files beside it.

    Samples are the sub-tables with `rows`; other sub-tables get a section of their own. Pictures
    (`.svg`) are shown.
    """
    metrics = {name: value for name, value in metrics.items() if name not in DRAWN}
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
        "- Who approved it, when and why: `states.json` beside the versions",
        *_pairs(manifest["context"], "no context"),
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
        *_features(manifest["features"], reasons.get("features", {})),
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
        rows.append(f"| {LABELS.get(metric, metric.replace('_', ' '))} | {cells} |")
    intervals = [sample.get("auc_interval") for sample in samples.values()]
    if any(intervals):
        cells = " | ".join(f"{i[0]:.4f} to {i[1]:.4f}" if i else "n/a" for i in intervals)
        rows.append(f"| AUC, 95 % by bootstrap | {cells} |")
    return rows


def _features(names: Sequence[str], reasons: Mapping[str, Any]) -> list[str]:
    """A line per feature; where a consumer is told reasons, with the one that it becomes."""
    told = {n: reasons[n] for n in names if "code" in reasons.get(n, {})}
    if not told:
        return [f"- `{name}`" for name in names]
    rows = [f"| `{n}` | {each['code']} | {each['text']} |" for n, each in told.items()]
    return ["| feature | reason | in words |", "|---|---|---|", *rows]


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
        lines += [*_pairs(plain, ""), ""] if plain else []
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
