"""How fast the synthetic world is made, and in how much memory, beside DuckDB writing its rows.

    python -m benchmarks.world --transactions 1000000

The reference is DuckDB copying the same rows of the feed `transactions`, all columns, out of the
landing files into one Parquet and one CSV file: reading and writing, without making anything. It
runs in this process after the world. Peak memory is that of this process up to the end of the
world. Ten million transactions: `--transactions 10000000`, about 15,000 accounts.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.memory import peak_bytes
from pipelines.sources.world import generate
from pipelines.warehouse import memory

DAYS = 540
PER_ACCOUNT = 650
"""Rows of the feed `transactions` that an account has in so many days, about."""
MIB = 1 << 20


def main() -> None:
    """Make the world, copy its rows, print one line for each and, at the end, all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--transactions", type=int, default=1_000_000, help="rows wanted, about")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the files go for as long as it runs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        print(json.dumps(measure(folder, arguments.transactions, arguments.seed)))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, transactions: int, seed: int) -> dict[str, float | int]:
    """Figures of one world in `folder`: rows, seconds of wall and processor, MiB at the peak."""
    accounts = max(1, round(transactions / PER_ACCOUNT))
    wall, processor = time.perf_counter(), time.process_time()
    world = generate(folder / "landing", accounts, DAYS, seed)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = peak_bytes() / MIB
    rows = world.rows["transactions"]
    figures: dict[str, float | int] = {
        "accounts": accounts,
        "rows_of_transactions": rows,
        "attempts": world.transactions,
        "rows_of_all_feeds": sum(world.rows.values()),
        "files": world.files,
        "seconds": round(wall, 2),
        "processor_seconds": round(processor, 2),
        "transactions_a_second": round(rows / wall),
        "attempts_a_second": round(world.transactions / wall),
        "transactions_a_processor_second": round(rows / processor),
        "peak_mib": round(peak),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(
        f"world: {rows:,} rows of transactions ({figures['rows_of_all_feeds']:,} of all feeds) in "
        f"{wall:.1f} s, {rows / wall:,.0f} a second, {peak:,.0f} MiB at the peak"
    )
    for form in ("parquet", "csv"):
        seconds = _copy(folder, form)
        figures[f"duckdb_{form}_rows_a_second"] = round(rows / seconds)
        print(f"DuckDB to {form}: {seconds:.1f} s, {rows / seconds:,.0f} rows a second")
    return figures


def _copy(folder: Path, form: str) -> float:
    """Seconds that DuckDB takes to write all rows of `transactions` as one file."""
    source, target = folder / "landing" / "transactions" / "*" / "*.parquet", folder / f"all.{form}"
    options = "format parquet, compression zstd" if form == "parquet" else "format csv, header"
    with memory() as con:
        rows = con.read_parquet(str(source), union_by_name=True)
        rows.create_view("transactions")
        started = time.perf_counter()
        # COPY takes no parameters for its target, which is a folder of this benchmark.
        con.execute(f"copy transactions to '{target}' ({options})")
        seconds = time.perf_counter() - started
    target.unlink()
    return seconds


if __name__ == "__main__":
    main()
