"""The dbt project on a made-up portfolio: delivered in parts, against delivered at once and by hand."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from pipelines.settings import get_settings
from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of, tables
from tests.dbt.random_history import history, loads_of

SEED = int(os.environ.get("CARDLINE_TEST_SEED", "7"))
LAYERS = ("intermediate", "marts", "features", "risk")
WHOLE = ("--exclude", "path:models/finance")
DAILY = (*WHOLE, "path:models/staging", "config.materialized:view")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The tables after three ingest commits, each worked through on its own."""
    before = os.environ.get("CARDLINE_HOME")
    home_of(tmp_path_factory.mktemp("dbt") / "home")
    rows = history(SEED)
    for number, load in enumerate(loads_of(rows, SEED)):
        load_no = deliver(load)
        build(*(DAILY if number else WHOLE), from_load_no=load_no - 1 if number else -1)
    yield {"rows": rows, "tables": tables(*LAYERS)}
    if before is None:
        os.environ.pop("CARDLINE_HOME", None)
    else:
        os.environ["CARDLINE_HOME"] = before
    get_settings.cache_clear()


def test_parts_give_what_a_full_build_gives(built: dict[str, Any]) -> None:
    build(*DAILY, "--full-refresh")
    whole = tables(*LAYERS)
    del whole["intermediate.int_entities__touched"]
    differing = {
        name: (
            [row for row in built["tables"][name] if row not in expected][:3],
            [row for row in expected if row not in built["tables"][name]][:3],
        )
        for name, expected in whole.items()
        if built["tables"][name] != expected
    }
    assert not differing
    empty = {name.split(".")[1] for name, rows in whole.items() if not rows}
    assert empty <= {
        "dim_cards", "dim_customers", "dim_programs", "fct_credit_outcomes", "fct_disputes",
        "fct_partner_acknowledgements", "fct_reward_events", "fct_settlement_details",
        "fct_settlement_totals",
    }  # fmt: skip
