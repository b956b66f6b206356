"""The page over all packs: programs, months and versions, made from what is in the folder."""

import json
from pathlib import Path
from typing import Any

from pipelines.files import written_aside
from pipelines.finance.pack_html import BASES
from pipelines.finance.units import Unit
from pipelines.pages import style, template
from pipelines.settings import Settings


def write_index(settings: Settings) -> Path:
    """Write `<reports>/index.html` over every pack that is there; returns it."""
    path = settings.reports_dir / "index.html"
    programs: dict[str, list[dict[str, Any]]] = {}
    packs = [
        (manifest.parent, json.loads(manifest.read_text(encoding="utf-8")))
        for manifest in (settings.reports_dir / "rewards").glob("*/*/v*/manifest.json")
    ]
    packs.sort(key=lambda pack: (pack[1]["parameters"]["period"], pack[1]["version"]), reverse=True)
    for folder, manifest in packs:
        parameters = manifest["parameters"]
        # A pack of an earlier release tells no headline; its page does.
        headline = manifest.get("headline")
        closing = "–"
        if headline:
            unit = Unit.money(headline["currency"])
            closing = f"{unit.text(headline['closing_minor'])} {unit.name}"
        programs.setdefault(parameters["program_id"], []).append(
            {
                "period": parameters["period"],
                "version": manifest["version"],
                "state": parameters["state"],
                "basis": BASES.get(manifest.get("basis", ""), ""),
                "closing": closing,
                "known": (manifest["as_of"]["recorded_at"] or "–")[:10],
                "folder": folder.relative_to(settings.reports_dir).as_posix(),
            }
        )
    page = template("index.html").render(
        style=style(),
        programs=sorted(programs.items()),
    )
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8", newline="\n")
    return path
