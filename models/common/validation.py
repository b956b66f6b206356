"""The validation report: one HTML page per version that opens offline."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from models.common.card import LABELS, METRIC_ORDER
from models.common.plots import bar_chart, line_chart

SAMPLES = {
    "development": "development",
    "holdout": "hold-out persons",
    "out_of_time": "out of time",
}
_STYLE = """
body{margin:0 auto;max-width:1040px;padding:36px 40px;color:#22303c;background:#fff;
font:14px/1.5 Helvetica,Arial,sans-serif;font-variant-numeric:tabular-nums}
h1{margin:0;color:#27496d}h2{margin:30px 0 8px;font-size:17px;color:#27496d}
.note{font-size:12px;color:#66727f;margin:4px 0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:28px}
table{width:100%;border-collapse:collapse;font-size:13px}th,td{padding:4px 8px;text-align:right;
border-bottom:1px solid #dfe4e8}th:first-child,td:first-child{text-align:left}
.fail{color:#b14a31;font-weight:600}.warn{color:#7a5700}.pass{color:#2f7a66}
@media(max-width:760px){.pair{grid-template-columns:1fr}}
"""


_THROUGH_THE_DOOR = (
    "Nothing is measured without an outcome: how declined applicants would have paid is unknown. "
    "Where no option of reject inference is told of above, nothing is assumed of them either, and "
    "figures hold for applicants like those that were approved."
)


def render_validation(manifest: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """HTML of a version with `curves` in its metrics: gates, metrics and seven plots."""
    curves = metrics["curves"]
    drawn = {told: curves[name] for name, told in SAMPLES.items() if name in curves}
    later = next(reversed(drawn.values()))
    measured = next(reversed(drawn))
    kind = str(manifest.get("parameters", {}).get("kind", "")).replace("_", " ")
    title = f"{manifest['name']} {manifest['version']}" + (f", {kind}" if kind else "")
    gap = metrics[next(n for n, told in SAMPLES.items() if told == measured)]["ks"]
    highest = "" if gap is None else f": largest gap {gap:.3f}"
    pictures = [
        ("ROC", line_chart({n: _roc(c) for n, c in drawn.items()},
                           "goods declined", "bads declined", unit_square=True)),
        (f"KS, {measured}{highest}", line_chart(
            _ks_lines(later), "score", "share up to the score")),
        (f"Calibration by decile, {measured}", line_chart(
            {"observed": [(b["expected"], b["observed"]) for b in later["calibration"]],
             "perfect": [(b["expected"], b["expected"]) for b in later["calibration"]]},
            "expected bad rate", "observed bad rate")),
        (f"Scores, {measured}", bar_chart(
            {"goods": _shares(later["histogram"]["goods"]),
             "bads": _shares(later["histogram"]["bads"])},
            [f"{e:.0f}" for e in later["histogram"]["edges"][:-1]], "share of its class")),
        ("Stability: share per development score bin", bar_chart(
            {n: c["shares"] for n, c in drawn.items()}, _bin_labels(metrics), "share of rows")),
        ("Vintages: bad rate by month of decision", bar_chart(
            {"expected": [v["expected"] for v in curves["vintages"]],
             "observed": [v["bad"] for v in curves["vintages"]]},
            [v["month"] for v in curves["vintages"]], "bad rate")),
    ]  # fmt: skip
    samples = {told: metrics[name] for name, told in SAMPLES.items() if metrics[name]["rows"]}
    figures = "".join(
        f"<figure style='margin:0'><h2>{escape(name)}</h2>{svg or '<p class=note>no rows</p>'}"
        "</figure>"
        for name, svg in pictures
    )
    body = [
        f"<h1>Validation of {escape(title)}</h1>",
        f"<p>{escape(str(manifest['purpose']))}</p>",
        f"<p class=note>Target: {escape(str(manifest['target']))}. Decisions "
        f"{escape(manifest['window']['start'])} to "
        f"{escape(manifest['window'].get('decisions_through', manifest['window']['end']))}; "
        f"data set {manifest['dataset_sha256'][:16]}; trained by {escape(manifest['trainer'])}; "
        f"git {escape(str(manifest['git_sha'] or 'unknown'))}.</p>",
        "<h2>Gates</h2>",
        _gates(manifest["gates"]),
        "<h2>Metrics</h2>",
        _metrics(samples),
        *_comparison(metrics.get("against_scorecard")),
        *_rejects(metrics.get("reject_inference")),
        f"<div class=pair>{figures}</div>",
        "<h2>Stability of features (CSI)</h2>",
        _csi(samples),
        "<h2>Population</h2>",
        _table(["state", "rows"], [[k, v] for k, v in metrics["population"].items()]),
        f"<p class=note>{_THROUGH_THE_DOOR}</p>",
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _roc(curve: Mapping[str, Any]) -> list[tuple[float, float]]:
    lines = curve["cumulative"]
    return [(0.0, 0.0), *zip(lines["goods"], lines["bads"], strict=True)]


def _ks_lines(curve: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    lines = curve["cumulative"]
    return {n: list(zip(lines["score"], lines[n], strict=True)) for n in ("bads", "goods")}


def _shares(counts: Sequence[int]) -> list[float]:
    return [count / max(1, sum(counts)) for count in counts]


def _bin_labels(metrics: Mapping[str, Any]) -> list[str]:
    edges = metrics["stability_bins"]["score"]["edges"]
    below = [f"< {edge:.0f}" for edge in edges]
    return [*below, f"≥ {edges[-1]:.0f}" if edges else "all", "missing"]


def _gates(gates: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(gate)}</td><td class={told.split(':')[0]} style='text-align:left'>"
        f"{escape(told)}</td></tr>"
        for gate, told in gates.items()
    )
    return f"<table>{rows}</table>"


def _metrics(samples: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[LABELS[metric], *(s.get(metric) for s in samples.values())]
            for metric in METRIC_ORDER]  # fmt: skip
    rows.append(["AUC, 95 % by bootstrap over persons",
                 *(_interval(s.get("auc_interval")) for s in samples.values())])  # fmt: skip
    rows.append(["score PSI", *(s.get("score_psi") for s in samples.values())])
    return _table(["", *samples], rows)


def _comparison(against: Mapping[str, Any] | None) -> list[str]:
    if against is None:
        return []
    cells = [[n.replace("_", " "), c["rows"], c["bad_rate"]]
             for n, c in against["swap_set"].items()]  # fmt: skip
    agreement = against["reason_agreement"]
    told = "unknown" if agreement is None else f"{agreement:.0%}"
    return [
        "<h2>Against the scorecard, as many declined by either</h2>",
        _table(["", "rows", "observed bad rate"], cells),
        f"<p class=note>AUC gain, 95 %: {_interval(against['auc_gain_interval'])}. First reason "
        f"among the scorecard's first two: {told} of {against['declines_compared']} declines.</p>",
    ]


def _rejects(told: Mapping[str, Any] | None) -> list[str]:
    if told is None:
        return []
    rows = [
        [figure.replace("_", " "), told["without"][figure], told["with"][figure]]
        for figure in told["with"]
    ]
    return [
        "<h2>Declined applicants: with and without what is assumed of them</h2>",
        f"<p class=note>Method {escape(told['method'])}, {told['declined_rows']:,} declined "
        "applications. AUC and calibration are of the latest outcomes.</p>",
        _table(["", "without", "with"], rows),
    ]


def _csi(samples: Mapping[str, Mapping[str, Any]]) -> str:
    features = next(iter(samples.values()))["csi"]
    return _table(["feature", *samples],
                  [[f, *(s["csi"][f] for s in samples.values())] for f in features])  # fmt: skip


def _interval(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else "n/a"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(v))}</td>" for v in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _cell(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
