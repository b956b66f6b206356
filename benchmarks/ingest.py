"""Ingest of one CSV file beside DuckDB's own conversion of it: `python -m benchmarks.ingest`.

Both read the same file in the same run, each in a process of its own; seconds, seconds of processor
(which other work on the machine changes less) and peak memory of each are printed. DuckDB only
converts; ingest also identifies, types, judges, hashes and registers.
With `--marts` the rows go on to marts and features; the slowest of dbt's nodes come last.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_bytes
from benchmarks.portfolio import LAST_DAY, Size, write_csv
from pipelines.settings import PROJECT_DIR

DAYS = 30
REFUNDS_WITHIN = timedelta(days=30)
"""All that the file tells of has happened by then: what is yet to come would be refused."""
GIB = 1 << 30


def _child(*arguments: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *arguments],
        env=os.environ | environment,
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _timed(task: str, *paths: str) -> dict[str, Any]:
    """One of the two, its imports done and its home made before the clock starts."""
    from pipelines.ingestion.load import ingest
    from pipelines.settings import Settings
    from pipelines.warehouse import connect, memory

    if task == "copy":
        source, target = paths
        with memory() as con:
            worked, started = time.process_time(), time.perf_counter()
            con.read_csv(source).write_parquet(target)
    else:
        settings = Settings(home=Path(paths[0]))  # pyright: ignore[reportCallIssue]
        connect(settings=settings).close()
        worked, started = time.process_time(), time.perf_counter()
        summary = ingest(settings=settings)
        if summary.files_loaded != 1 or summary.rows_quarantined:
            raise SystemExit(f"the file was not taken in whole: {summary}")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "processor": time.process_time() - worked, "peak": peak_bytes()}


def _show(name: str, figures: dict[str, Any], copied: dict[str, Any], more: str = "") -> None:
    """Seconds and seconds of processor, with how many times those of the copy they are."""
    told = (
        f"{figures[kind]:>10.2f} s{figures[kind] / copied[kind]:>7.2f} x"
        for kind in ("seconds", "processor")
    )
    print(f"{name:<26}{''.join(told)}{more}", flush=True)


def main() -> None:
    """Read the arguments, make the file, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=1, help="pairs of both, one after the other")
    parser.add_argument("--marts", action="store_true", help="also build marts and features")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(_timed(*args.task)))
        return
    folder = Path(tempfile.mkdtemp(prefix="cardline-ingest-"))
    try:
        home = folder / "home"
        batch = home / "landing" / "transactions" / (LAST_DAY + REFUNDS_WITHIN).isoformat()
        source = folder / "part-0.csv"
        rows = write_csv(source, Size.of(args.rows, DAYS))
        print(f"{rows:,} rows, {source.stat().st_size / 1e6:,.0f} MB of CSV", flush=True)
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for _ in range(args.repeat):
            shutil.rmtree(home, ignore_errors=True)
            batch.mkdir(parents=True)
            os.link(source, batch / source.name)
            target = str(folder / "c.parquet")
            copied = _child("benchmarks.ingest", "--task", "copy", str(source), target)
            taken = _child("benchmarks.ingest", "--task", "ingest", str(home))
            for name, figures in (("DuckDB COPY", copied), ("ingest", taken)):
                _show(name, figures, copied, f"{figures['peak'] / GIB:>8.2f} GiB")
            pairs.append((copied, taken))
        if args.repeat > 1:
            ratios = [taken["seconds"] / copied["seconds"] for copied, taken in pairs]
            print(f"median of {args.repeat} pairs: {statistics.median(ratios):.2f} x")
        copied, taken = pairs[-1]
        if args.marts:
            figures = _child("benchmarks.stages", CARDLINE_HOME=str(home))
            stages = figures["stages"]
            whole = {
                name: taken[name] + sum(stage[name] for stage in stages.values())
                for name in ("seconds", "processor")
            }
            _show("marts and features", whole, copied)
            for name, stage in stages.items():
                _show(f"    {name}", stage, copied)
            for name, seconds in figures["dbt"].items():
                print(f"        {name:<44}{seconds:>8.2f} s", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
