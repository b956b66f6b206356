"""The engine's benchmark does the work that it measures."""

import pytest


def test_every_pass_works_every_event_whatever_the_chunks():
    from benchmarks.rewards_engine import run

    whole, parts = run("clear_cash", 900, 900), run("clear_cash", 900, 300)
    assert (whole["events"], whole["accounts"]) == (900, 3) == (parts["events"], parts["accounts"])
    assert whole["decisions"] >= 900 and parts["decisions"] >= 900
    for name in ("entries", "legs", "lots", "duckdb_rows"):
        assert whole[name] > 0 and parts[name] > 0
    assert set(whole["events_a_second"]) == {"decide", "decide, post, lots", "duckdb"}


def test_events_are_the_same_each_time():
    from benchmarks.rewards_engine import histories

    made = histories(300, 600, "USD", 0.1)
    assert made.equals(histories(300, 600, "USD", 0.1))
    assert made["event_id"].n_unique() == 600 and made["account_id"].n_unique() == 2
    assert made.filter(direction="CREDIT").height == pytest.approx(60, abs=40)
