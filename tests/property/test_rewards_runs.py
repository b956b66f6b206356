"""Order and sums by whole numbers, against plain Python."""

from itertools import groupby, pairwise

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rewards.runs import Runs, following, ranks, sorted_by

small = st.integers(-3, 3)
rows_of_all_kinds = st.tuples(
    st.sampled_from("abc"), st.integers(-(2**63), 2**63 - 1), small, st.text("xy")
)
relaxed = settings(deadline=None)


@relaxed
@given(st.lists(st.tuples(small, st.integers(-(2**62), 2**62)), max_size=30))
def test_runs_add_up_as_groups_of_neighbours_do(pairs):
    group = np.array([each for each, _ in pairs], dtype=np.int64)
    values = np.array([each % 1000 for _, each in pairs], dtype=np.int64)
    runs = Runs.of(pl.Series(group))
    together = [
        [value % 1000 for _, value in part] for _, part in groupby(pairs, key=lambda pair: pair[0])
    ]
    assert runs.sums(values).tolist() == [sum(part) for part in together]
    assert runs.before(values).tolist() == [
        sum(part[:place]) for part in together for place in range(len(part))
    ]
    assert runs.place().tolist() == [place for part in together for place in range(len(part))]
    assert runs.number().tolist() == [n for n, part in enumerate(together) for _ in part]


def test_sums_before_are_exact_though_the_total_of_all_runs_overflows():
    runs = Runs.of(np.array([0, 0, 1, 1, 2, 2]))
    assert runs.before(np.array([2**62, 1] * 3)).tolist() == [0, 2**62] * 3


@relaxed
@given(st.lists(rows_of_all_kinds, max_size=30))
def test_rows_are_sorted_by_numbers_and_then_by_ties(rows):
    frame = pl.DataFrame(
        rows, orient="row",
        schema={"name": pl.String, "number": pl.Int64, "few": pl.Int64, "text": pl.String},
    )  # fmt: skip
    names = ranks(frame["name"])
    found = sorted_by(frame, [names, frame["few"].to_numpy(), frame["number"].to_numpy()], ["text"])
    assert found.rows() == sorted(rows, key=lambda row: (row[0], row[2], row[1], row[3]))
    untied = sorted_by(frame, [names], [])
    assert untied.rows() == sorted(rows, key=lambda row: row[0])


@relaxed
@given(st.permutations(range(6)), st.lists(st.tuples(st.integers(0, 7), small), max_size=20))
def test_rows_follow_ids_in_whatever_order_they_come(ids, rows):
    frame = pl.DataFrame(rows, schema={"id": pl.Int64, "then": pl.Int64}, orient="row")
    for given_rows in (frame, frame.sort("id", "then").unique(maintain_order=True)):
        found, ends = following(given_rows, "id", pl.Series(ids), "then")
        expected = [sorted(row for row in given_rows.rows() if row[0] == each) for each in ids]
        assert [found.rows()[a:b] for a, b in pairwise(ends)] == expected
