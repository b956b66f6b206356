"""Ingest of one CSV file beside DuckDB's own conversion of it: `python -m benchmarks.ingest`.

Both read the same file in the same run, each in a process of its own; seconds, seconds of processor
(which other work on the machine changes less) and peak memory of each are printed. DuckDB only
converts; ingest also identifies, types, judges, hashes and registers.
With `--marts` the rows go on to marts and features.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.portfolio import LAST_DAY, Size, write_csv
from pipelines.settings import PROJECT_DIR

DAYS = 30
REFUNDS_WITHIN = timedelta(days=30)
"""All that the file tells of has happened by then: what is yet to come would be refused."""
GIB = 1 << 30


def _copy(source: Path, target: Path) -> None:
    from pipelines.warehouse import memory

    with memory() as con:
        con.read_csv(str(source)).write_parquet(str(target))


def _ingest(home: Path) -> None:
    from pipelines.ingestion.load import ingest
    from pipelines.settings import Settings

    summary = ingest(settings=Settings(home=home))  # pyright: ignore[reportCallIssue]
    if summary.files_loaded != 1 or summary.rows_quarantined:
        raise SystemExit(f"the file was not taken in whole: {summary}")


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
    started, worked = time.perf_counter(), time.process_time()
    if task == "copy":
        _copy(Path(paths[0]), Path(paths[1]))
    else:
        _ingest(Path(paths[0]))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "processor": time.process_time() - worked, "peak": peak}


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
        source = batch / "part-0.csv"
        rows = write_csv(source, Size.of(args.rows, DAYS))
        print(f"{rows:,} rows, {source.stat().st_size / 1e6:,.0f} MB of CSV", flush=True)
        copied = _child(
            "benchmarks.ingest", "--task", "copy", str(source), str(folder / "c.parquet")
        )
        taken = _child("benchmarks.ingest", "--task", "ingest", str(home))
        for name, figures in (("DuckDB COPY", copied), ("ingest", taken)):
            _show(name, figures, copied, f"{figures['peak'] / GIB:>8.2f} GiB")
        if args.marts:
            stages = _child("benchmarks.stages", CARDLINE_HOME=str(home))["stages"]
            whole = {
                name: taken[name] + sum(stage[name] for stage in stages.values())
                for name in ("seconds", "processor")
            }
            _show("marts and features", whole, copied)
            for name, stage in stages.items():
                _show(f"    {name}", stage, copied)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
