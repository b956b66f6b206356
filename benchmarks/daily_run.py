"""What a day costs on histories of different size: `python -m benchmarks.daily_run`.

Each history is built once from landing; then the files of one and the same day go from landing to
marts, features and the online store, and the seconds of every stage are printed side by side.
`--grow accounts` puts other accounts beside those of the day, `--grow days` a longer past behind
them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.portfolio import LAST_DAY, MESSAGES_PER_ACCOUNT_DAY, Size, write_day, write_history
from pipelines.settings import PROJECT_DIR

DAYS = 300


def _run(home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.stages"],
        env=os.environ | {"CARDLINE_HOME": str(home)},
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(home: Path, size: Size, day_accounts: int, args: argparse.Namespace) -> dict[str, Any]:
    """A history of `size`, then `args.daily` days one by one; the last one is told."""
    days = home / "days"
    if not days.exists():
        rows = write_history(home / "landing", size)
        print(f"history of {rows:,} transactions, {size.accounts:,} accounts, {size.days} days:",
              end=" ", flush=True)  # fmt: skip
        history = _run(home)["stages"].values()
        seconds, processor = (
            sum(stage[name] for stage in history) for name in ("seconds", "processor")
        )
        print(f"{seconds:.0f} s, {processor:.0f} of processor", flush=True)
        days.write_text("0")
    first = int(days.read_text()) + 1
    figures: dict[str, Any] = {}
    for number in range(first, first + args.daily):
        days.write_text(str(number))
        write_day(home / "landing", LAST_DAY + timedelta(number), day_accounts, args.day)
        figures = _run(home)
        seconds = sum(stage["seconds"] for stage in figures["stages"].values())
        processor = sum(stage["processor"] for stage in figures["stages"].values())
        print(f"  day {number}: {seconds:.1f} s, {processor:.1f} of processor, after "
              f"{figures['imports']:.1f} s of imports", flush=True)  # fmt: skip
    return figures


def _show(small: dict[str, Any], large: dict[str, Any]) -> None:
    def row(name: str, one: float, other: float) -> None:
        ratio = f"{other / one:8.2f}" if one else " " * 8
        print(f"{name:<44}{one:>9.2f}{other:>9.2f}{ratio}")

    print(f"\n{'seconds':<44}{'small':>9}{'large':>9}{'ratio':>8}")
    row("imports", small["imports"], large["imports"])
    for name, stage in small["stages"].items():
        other = large["stages"][name]
        row(name, stage["seconds"], other["seconds"])
        row("    of it work", stage["work"], other["work"])
        row("    seconds of processor", stage["processor"], other["processor"])
    totals = [
        {
            name: sum(stage[name] for stage in figures["stages"].values())
            for name in ("seconds", "work", "processor")
        }
        for figures in (small, large)
    ]
    row("the day without imports", totals[0]["seconds"], totals[1]["seconds"])
    row("    of it work", totals[0]["work"], totals[1]["work"])
    row("    of it orchestration", *(total["seconds"] - total["work"] for total in totals))
    row("    seconds of processor", totals[0]["processor"], totals[1]["processor"])
    print("\nslowest of dbt in the large history")
    for name, seconds in list(large["dbt"].items())[:12]:
        kind, _, node = name.split(".")[:3]
        row(f"{kind} {node[:37]}", small["dbt"].get(name, 0.0), seconds)


def main() -> None:
    """Read the arguments, measure both histories, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", type=int, default=200_000, help="transactions of the smaller")
    parser.add_argument("--large", type=int, default=1_000_000, help="transactions of the larger")
    parser.add_argument("--day", type=int, default=30_000, help="transactions of the day")
    parser.add_argument("--daily", type=int, default=2, help="days run one by one; the last counts")
    parser.add_argument("--grow", choices=("accounts", "days"), default="accounts")
    parser.add_argument("--folder", type=Path, help="where the homes are left, to go on with")
    args = parser.parse_args()
    small = Size.of(args.small, DAYS)
    large = (
        Size.of(args.large, DAYS)
        if args.grow == "accounts"
        else Size(small.accounts, round(args.large / small.accounts / MESSAGES_PER_ACCOUNT_DAY))
    )
    folder = args.folder or Path(tempfile.mkdtemp(prefix="cardline-daily-"))
    day_accounts = max(1, min(small.accounts * 3 // 4, args.day // 4))
    try:
        figures = [
            _measure(folder / name, size, day_accounts, args)
            for name, size in (("small", small), ("large", large))
        ]
        _show(*figures)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
