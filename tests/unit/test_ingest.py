"""What ingest takes in, what it sets aside and why, and that nothing is done twice."""

import errno
import gzip
import io
import json
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import warehouse
from pipelines.contracts import FEEDS
from pipelines.contracts.contract import Column
from pipelines.files import sha256_of
from pipelines.findings import fresh_findings
from pipelines.ingestion import load, readers
from pipelines.ingestion.load import ingest
from pipelines.settings import Settings
from pipelines.sources.landing import LandingWriter
from pipelines.warehouse import connect

HEADER = (
    "event_id,transaction_id,event_type,account_id,card_id,event_at,amount_minor,currency,direction"
)
DAY = "2024-03-05"
_LINES = "".join(f"{n},{n * 7919 % 10_007}\n" for n in range(20_000))
GZIP = gzip.compress(f"a,b\n{_LINES}".encode(), mtime=0)
_TWICE = io.BytesIO()
pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["mcc", "mcc"]), _TWICE)
TWICE = _TWICE.getvalue()


def _row(number: int, header: str = HEADER, **changes: str) -> str:
    values = {
        "event_id": f"e{number}",
        "transaction_id": f"t{number}",
        "event_type": "CLEARING",
        "account_id": "a1",
        "card_id": "c1",
        "event_at": "2024-03-05T10:00:00Z",
        "amount_minor": "100",
        "currency": "USD",
        "direction": "DEBIT",
    } | changes
    return ",".join(values[name] for name in header.split(","))


def _csv(rows: list[str], header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", max_bad_row_share=0.5)  # pyright: ignore


@pytest.fixture
def drop(settings: Settings) -> Callable[..., Path]:
    """Puts a text file into the landing folder of `transactions`."""

    def put(
        text: str | bytes,
        name: str = "part.csv",
        day: str = DAY,
        feed: str = "transactions",
        manifest: dict[str, Any] | None = None,
    ) -> Path:
        path = settings.landing_dir / feed / day / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if manifest is not None:
            path.with_name(f"{name}.manifest.json").write_text(json.dumps(manifest))
        return path

    return put


def _parquet(number: int = 1, **more: "pa.Array") -> bytes:
    """One row of `transactions` with the columns `more` besides or instead."""
    values = dict(zip(HEADER.split(","), _row(number).split(","), strict=True))
    columns = {name: pa.array([value]) for name, value in values.items()} | more
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _query(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with connect(read_only=True, settings=settings) as con:
        return con.execute(query).fetchall()


def _file_reasons(settings: Settings) -> list[str]:
    return [reason for (reason,) in _query(settings, "select reason from quarantine.files")]


def _row_reasons(settings: Settings) -> list[tuple[Any, ...]]:
    return _query(settings, "select line_no, reason from quarantine.rows order by line_no")


def _sample(column: Column) -> object:
    """A value that the contract of `column` allows."""
    if column.allowed:
        return column.allowed[-1]
    if column.pattern:
        return next(
            text for text in ("5411", "US", "2024-03") if re.fullmatch(column.pattern, text)
        )
    return {
        "string": f"a {column.name}", "integer": 7, "number": 0.25, "boolean": True,
        "timestamp": datetime(2024, 3, 4, 5, 6, 7), "date": date(2024, 3, 4),
    }[column.type]  # fmt: skip


@pytest.mark.parametrize("name", FEEDS)
def test_every_column_of_a_feed_arrives_as_it_was_sent(
    settings: Settings, drop: Any, name: str
) -> None:
    columns = FEEDS[name].columns
    sent = {
        column.name: 2000 if column.name == "birth_year" else _sample(column) for column in columns
    }
    texts = [str(value).lower() if value is True else str(value) for value in sent.values()]
    drop(_csv([",".join(texts)], ",".join(sent)), feed=name)
    assert ingest(settings=settings).rows == {name: 1}, _row_reasons(settings)
    assert _query(settings, f"select {', '.join(sent)} from raw.{name}") == [tuple(sent.values())]


def test_every_feed_has_an_empty_table_before_anything_arrives(settings: Settings) -> None:
    with connect(settings=settings):
        pass
    for name, feed in FEEDS.items():
        with connect(read_only=True, settings=settings) as con:
            relation = con.table(f"lake.raw.{name}")
            assert relation.columns == list(feed.raw_schema())
            assert relation.fetchall() == []


def test_rows_land_typed_with_their_lineage(settings: Settings, drop: Any) -> None:
    path = drop(_csv([_row(1), _row(2, event_at="2024-03-05 12:00:00+02:00")]))
    summary = ingest(settings=settings)
    assert summary.rows == {"transactions": 2}
    rows = _query(
        settings,
        "select event_id, event_at, amount_minor, posted_on, file_id, line_no, batch_date, "
        "received_at from raw.transactions order by line_no",
    )
    file_id = sha256_of(path)[:32]
    known = datetime(2024, 3, 5, 23, 59, 59, 999999)
    ten = datetime(2024, 3, 5, 10)
    assert rows == [
        ("e1", ten, 100, None, file_id, 2, date(2024, 3, 5), known),
        ("e2", ten, 100, None, file_id, 3, date(2024, 3, 5), known),
    ]


def test_the_same_landing_folder_twice_changes_nothing(settings: Settings, drop: Any) -> None:
    path = drop(_csv([_row(1)]))
    ingest(settings=settings)
    before = _query(settings, "from landing.files"), _query(settings, "from raw.transactions")
    assert ingest(settings=settings).load_no is None
    path.touch()
    assert ingest(settings=settings).load_no is None
    after = _query(settings, "from landing.files"), _query(settings, "from raw.transactions")
    assert len(before[0]) == len(after[0]) == 1
    assert before[1] == after[1]


def test_a_file_delivered_again_under_another_name_adds_no_rows(
    settings: Settings, drop: Any
) -> None:
    drop(_csv([_row(1)]))
    ingest(settings=settings)
    drop(_csv([_row(1)]), name="again.csv", day="2024-03-09")
    assert ingest(settings=settings).files_duplicate == 1
    assert _query(settings, "select count(*) from raw.transactions") == [(1,)]


def test_the_same_content_twice_at_once_is_loaded_by_the_file_that_can_be(
    settings: Settings, drop: Any
) -> None:
    drop(_csv([_row(1)]), name="a.csv", manifest={"rows": 2})
    drop(_csv([_row(1)]), name="b.csv")
    drop(_csv([_row(1)]), name="c.csv")
    summary = ingest(settings=settings)
    assert (summary.files_quarantined, summary.files_loaded, summary.files_duplicate) == (1, 1, 1)
    assert _query(settings, "select count(*) from raw.transactions") == [(1,)]


def test_what_has_no_place_in_landing_is_told_and_not_passed_over(
    settings: Settings, drop: Any
) -> None:
    within = drop(_csv([_row(1)])).parent / "more"
    within.mkdir()
    (within / "deep.csv").write_text(_csv([_row(2)]))
    drop(_csv([_row(3)]), name="far.csv", day="2999-03-06")
    drop(_csv([_row(4)]), name="odd.csv", day="20240306")
    summary = ingest(settings=settings)
    assert (summary.files_loaded, summary.files_quarantined) == (1, 3)
    told = dict(_query(settings, "select path, reason from quarantine.files"))
    assert {Path(path).name: reason for path, reason in told.items()} == {
        "deep.csv": "a file belongs into <feed>/<batch date>/",
        "odd.csv": "the folder '20240306' is no batch date (YYYY-MM-DD)",
        "far.csv": "the batch date 2999-03-06 lies more than five years ahead",
    }


def test_every_empty_file_waits(settings: Settings, drop: Any) -> None:
    drop("")
    drop("", day="2024-03-06")
    assert ingest(settings=settings).files_quarantined == 2


def test_other_content_under_a_known_key_is_kept_as_another_version(
    settings: Settings, drop: Any
) -> None:
    drop(_csv([_row(1)]))
    drop(_csv([_row(1, amount_minor="175")]), day="2024-03-06")
    ingest(settings=settings)
    rows = _query(
        settings, "select amount_minor, count(distinct record_hash) over () from raw.transactions"
    )
    assert sorted(rows) == [(100, 2), (175, 2)]


def test_equal_content_has_an_equal_hash_in_whatever_format_it_comes(
    settings: Settings, drop: Any
) -> None:
    drop(_csv([_row(1)]))
    columns = HEADER.split(",")
    drop(json.dumps(dict(zip(columns, _row(1).split(","), strict=True))), name="x.jsonl")
    frame = pl.read_csv(_csv([_row(1)]).encode()).with_columns(
        pl.lit(datetime(2024, 3, 5, 10)).alias("event_at")
    )
    LandingWriter(settings.landing_dir).write("transactions", date(2024, 3, 7), frame)
    ingest(settings=settings)
    counted = _query(settings, "select count(*), count(distinct record_hash) from raw.transactions")
    assert counted == [(3, 1)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount_minor": "ten"}, "amount_minor is no integer: ten"),
        ({"amount_minor": "10.5"}, "amount_minor is no integer: 10.5"),
        ({"amount_minor": "-5"}, "amount_minor is below 0: -5"),
        (
            {"amount_minor": "9223372036854775807"},
            "amount_minor is above 1000000000000000: 9223372036854775807",
        ),
        ({"direction": "UP"}, "direction is none of the allowed values: UP"),
        ({"currency": "usd"}, "currency is none of the allowed values: usd"),
        ({"currency": "ABC"}, "currency is none of the allowed values: ABC"),
        ({"mcc": "food"}, "mcc is not like [0-9]{4}: food"),
        ({"latitude": "90.5"}, "latitude is above 90: 90.5"),
        ({"longitude": "-181"}, "longitude is below -180: -181"),
        ({"event_at": "yesterday"}, "event_at is no timestamp: yesterday"),
        ({"account_id": ""}, "account_id is missing"),
        (
            {"event_type": "X", "amount_minor": ""},
            "event_type is none of the allowed values: X; amount_minor is missing",
        ),
    ],
)
def test_a_row_that_breaks_its_contract_waits_with_line_reason_and_payload(
    settings: Settings, drop: Any, changes: dict[str, str], reason: str
) -> None:
    header = ",".join(dict.fromkeys([*HEADER.split(","), *changes]))
    more = {name: "" for name in changes if name not in HEADER.split(",")}
    drop(_csv([_row(1, header, **more), _row(2, header, **changes)], header))
    summary = ingest(settings=settings)
    assert summary.rows == {"transactions": 1}
    assert summary.rows_quarantined == {"transactions": 1}
    assert _row_reasons(settings) == [(3, reason)]
    [(payload,)] = _query(settings, "select payload from quarantine.rows")
    expected = dict(zip(header.split(","), _row(2, header, **changes).split(","), strict=True))
    assert json.loads(payload) == {name: value for name, value in expected.items() if value}


@pytest.mark.parametrize(
    ("name", "values", "found", "reason"),
    [
        ("amount_minor", pa.array([Decimal("12.00")], pa.decimal128(12, 2)), 12, None),
        (
            "amount_minor",
            pa.array([Decimal("12.99")], pa.decimal128(12, 2)),
            None,
            "amount_minor is no integer: 12.99",
        ),
        (
            "event_at",
            pa.array([1_709_632_800]),
            None,
            "event_at is no timestamp: 1709632800",
        ),
        ("event_at", pa.array([1.5]), None, "event_at is no timestamp: 1.5"),
        ("posted_on", pa.array([19_787]), None, "posted_on is no date: 19787"),
        ("posted_on", pa.array([date(2024, 3, 5)]), date(2024, 3, 5), None),
        ("posted_on", pa.nulls(1), None, None),
        ("is_card_present", pa.array([1.0]), True, None),
        ("is_card_present", pa.array([0.5]), None, "is_card_present is no boolean: 0.5"),
    ],
)
def test_a_value_that_is_not_exactly_of_its_type_waits(
    settings: Settings, drop: Any, name: str, values: "pa.Array", found: Any, reason: str | None
) -> None:
    drop(_csv([_row(1)]))
    drop(_parquet(2, **{name: values}), name="part.parquet")
    ingest(settings=Settings(home=settings.home, max_bad_row_share=1))  # pyright: ignore
    assert [told for _, told in _row_reasons(settings)] == ([] if reason is None else [reason])
    rows = _query(settings, f"select {name} from raw.transactions where event_id = 'e2'")
    assert rows == ([(found,)] if reason is None else [])


@pytest.fixture(params=["small", "large", "slow"])
def csv_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways in which a CSV is read."""

    def fail(*_: Any, **__: Any) -> Any:
        raise pl.exceptions.ComputeError("")

    if request.param == "large":
        monkeypatch.setattr(readers, "_WHOLE_CSV_BYTES", 0)
    if request.param == "slow":
        monkeypatch.setattr(readers, "_small_csv", fail)
    return request.param


@pytest.mark.usefixtures("csv_reader")
@pytest.mark.parametrize("blank", ["", "   ", "\r"])
def test_blank_lines_are_passed_over(settings: Settings, drop: Any, blank: str) -> None:
    drop(_csv([_row(1), blank, blank, _row(2), _row(3, direction="UP"), blank]))
    assert ingest(settings=settings).rows == {"transactions": 2}
    assert [line for line, _ in _row_reasons(settings)] == [6]
    lines = _query(settings, "select line_no from raw.transactions order by all")
    assert lines == [(2,), (5,)]


@pytest.mark.usefixtures("csv_reader")
@pytest.mark.parametrize("end", ['"DEBIT', '"DEBIT\n' + _row(3), '"'])
@pytest.mark.parametrize("last", ["", "\n"])
def test_a_quote_that_is_never_closed_makes_the_file_wait(
    settings: Settings, drop: Any, end: str, last: str
) -> None:
    drop(f"{HEADER}\n{_row(1)}\n{_row(2, direction=end)}{last}")
    drop(f'{HEADER}\n{_row(5)}\n"{last}', name="quote.csv")
    drop(_csv([_row(4)]), name="whole.csv")
    assert ingest(settings=settings).rows == {"transactions": 1}
    assert _file_reasons(settings) == ["a quote that line 3 opens is never closed"] * 2


@pytest.mark.usefixtures("csv_reader")
@pytest.mark.parametrize("last", ["", "\n"])
def test_lines_within_quotes_are_part_of_a_value(settings: Settings, drop: Any, last: str) -> None:
    drop(f'{HEADER},note\n{_row(1)},"one\n\ntwo"\n{_row(2)},"end\n"{last}')
    ingest(settings=settings)
    found = _query(settings, "select line_no, extra from raw.transactions order by all")
    assert [(line, json.loads(extra)) for line, extra in found] == [
        (2, {"note": "one\n\ntwo"}),
        (3, {"note": "end\n"}),
    ]


@pytest.mark.usefixtures("csv_reader")
def test_a_line_of_separators_is_a_row(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1), "", ",,,,,,,,", _row(2)]))
    assert ingest(settings=settings).rows == {"transactions": 2}
    assert [line for line, _ in _row_reasons(settings)] == [4]


def test_rows_before_a_broken_line_of_a_large_file_come_once(
    settings: Settings, drop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(_: Path) -> Any:
        yield pl.read_csv(_csv([_row(1), _row(2)]).encode(), infer_schema=False)
        raise pl.exceptions.ComputeError("")

    monkeypatch.setattr(readers, "_small_csv", part)
    drop(_csv([_row(1), _row(2), _row(3)]))
    assert ingest(settings=settings).rows == {"transactions": 3}


def test_a_ragged_line_costs_only_itself(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1), _row(2) + ",surplus", _row(3)]))
    assert ingest(settings=settings).rows == {"transactions": 2}
    assert _row_reasons(settings) == [(3, "the line has 10 fields and the header 9")]


@pytest.mark.usefixtures("csv_reader")
@pytest.mark.parametrize("name", ["part-0.csv", "part-0.csv.gz"])
@pytest.mark.parametrize("memo", ["", "what,for", 'two\nlines of ""it""'])
def test_a_line_that_breaks_off_is_no_row(
    settings: Settings, drop: Any, name: str, memo: str
) -> None:
    header = f"{HEADER},memo,note"
    rows = [f'{_row(1)},"{memo}",', _row(2), f"{_row(3)},,", f"{_row(4)},"]
    text = _csv(rows, header)
    drop(gzip.compress(text.encode()) if name.endswith(".gz") else text, name=name)
    assert ingest(settings=settings).rows == {"transactions": 2}
    assert [reason for _, reason in _row_reasons(settings)] == [
        "the line has 9 fields and the header 11",
        "the line has 10 fields and the header 11",
    ]


@pytest.mark.usefixtures("csv_reader")
def test_fields_that_a_line_leaves_empty_at_its_end_are_nulls(
    settings: Settings, drop: Any
) -> None:
    drop(_csv([f"{_row(1)},", f'{_row(2)},""', f'{_row(3)},"a, b"'], f"{HEADER},memo"))
    assert ingest(settings=settings).rows == {"transactions": 3}


def test_a_broken_line_of_json_costs_only_itself(settings: Settings, drop: Any) -> None:
    good = json.dumps(dict(zip(HEADER.split(","), _row(1).split(","), strict=True)))
    drop(f'{good}\n{{"event_id": \n', name="part.jsonl")
    assert ingest(settings=settings).rows == {"transactions": 1}
    assert _row_reasons(settings) == [(2, "the line is not a JSON object")]


def test_signed_amounts_have_a_limit_below_and_above(settings: Settings, drop: Any) -> None:
    header = (
        "total_id,network,report_on,currency,gross_minor,interchange_minor,charges_minor,net_minor"
    )
    rows = [
        f"t{number},VISA,2024-03-05,USD,0,0,0,{net}"
        for number, net in enumerate([10**15, -(10**15), 10**15 + 1, -(10**15) - 1])
    ]
    drop(_csv(rows, header), feed="settlement_totals")
    assert ingest(settings=settings).rows == {"settlement_totals": 2}
    assert _row_reasons(settings) == [
        (4, "net_minor is above 1000000000000000: 1000000000000001"),
        (5, "net_minor is below -1000000000000000: -1000000000000001"),
    ]


def test_too_many_bad_rows_make_the_file_wait_whole(tmp_path: Path, drop: Any) -> None:
    strict = Settings(home=tmp_path / "home")  # pyright: ignore
    rows = [_row(n) for n in range(199)]
    drop(_csv([*rows, _row(200, direction="UP"), _row(201, direction="UP")]))
    drop(_csv([*rows, _row(200), _row(202, direction="UP")]), name="other.csv")
    summary = ingest(settings=strict)
    assert summary.files_quarantined == 0
    drop(_csv([*rows[:50], _row(200, direction="UP")]), name="third.csv")
    ingest(settings=strict)
    assert _file_reasons(strict) == [
        "1 of 51 rows break the contract, over the share of 0.01: the file waits whole"
    ]


def test_unknown_columns_are_kept_and_reported(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1) + ",blue"], HEADER + ",colour"))
    ingest(settings=settings)
    assert _query(settings, "select extra from raw.transactions") == [('{"colour": "blue"}',)]
    assert _query(settings, "select unknown_columns from landing.files") == [("colour",)]


def test_a_missing_required_column_makes_the_file_wait(settings: Settings, drop: Any) -> None:
    drop("event_id,transaction_id\ne1,t1\n")
    ingest(settings=settings)
    [reason] = _file_reasons(settings)
    assert reason.startswith("required column missing: event_type, account_id")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"rows": 3}, "the manifest says 3 rows and the file has 2"),
        ({"sha256": "0" * 64}, "the file is not the one of its manifest: sha256 differs"),
        (
            {"control_totals": {"amount_minor": {"DEBIT": 201}}},
            "control total amount_minor of DEBIT: the manifest says 201, the file has 200",
        ),
        (
            {"control_totals": {"amount_minor": {"DEBIT": 200, "CREDIT": 1}}},
            "control total amount_minor of CREDIT: the manifest says 1, the file has 0",
        ),
        ({"received_at": "noon"}, "received_at of the manifest is no timestamp"),
    ],
)
def test_a_file_that_is_not_as_its_manifest_says_waits_whole(
    settings: Settings, drop: Any, manifest: dict[str, Any], reason: str
) -> None:
    drop(_csv([_row(1), _row(2)]), manifest=manifest)
    ingest(settings=settings)
    assert _file_reasons(settings) == [reason]
    assert _query(settings, "select count(*) from raw.transactions") == [(0,)]


def test_a_manifest_may_begin_with_a_byte_order_mark(settings: Settings, drop: Any) -> None:
    path = drop(_csv([_row(1)]), manifest={"rows": 1})
    manifest = path.with_name(f"{path.name}.manifest.json")
    manifest.write_text(manifest.read_text(), encoding="utf-8-sig")
    assert ingest(settings=settings).rows == {"transactions": 1}


def test_a_mended_manifest_lets_the_waiting_file_in(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]), manifest={"rows": 2})
    ingest(settings=settings)
    drop(_csv([_row(1)]), manifest={"rows": 1, "received_at": "2024-03-06T08:00:00+02:00"})
    assert ingest(settings=settings).rows == {"transactions": 1}
    known = _query(settings, "select received_at from raw.transactions")
    assert known == [(datetime(2024, 3, 6, 6),)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", b"", "the file is empty: it has not even a header"),
        ("empty.jsonl", b"", "the file is empty"),
        ("blank.jsonl", b"\n \n", "the file is empty"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("empty.parquet", b"", "the file is empty"),
        ("latin.csv", "größe\n".encode("latin-1"), "the file is not UTF-8 text"),
        (
            "body.csv",
            _csv([_row(1, card_id="größe")]).encode("latin-1"),
            "the file is not UTF-8 text",
        ),
        ("cut.parquet", b"PAR1 and no more", "not a whole Parquet file"),
        ("notes.docx", b"x", "the file is of no known format"),
        ("cut.csv.gz", GZIP[:-20], "not a whole gzip file"),
        ("no_end.csv.gz", GZIP[:-8], "not a whole gzip file"),
        ("sum.csv.gz", GZIP[:-8] + bytes(8), "not a whole gzip file"),
        ("bits.csv.gz", GZIP[:5000] + b"\xff" * 9 + GZIP[5009:], "not a whole gzip file"),
        ("twice.csv", b"mcc,mcc\n1,2\n", "the header names mcc more than once"),
        ("twice.parquet", TWICE, "the header names mcc more than once"),
    ],
)
def test_an_unreadable_file_waits_with_its_reason_and_the_others_load(
    settings: Settings, drop: Any, name: str, content: bytes, reason: str
) -> None:
    drop(content, name=name)
    drop(_csv([_row(1)]), name="whole.csv")
    assert ingest(settings=settings).rows == {"transactions": 1}
    assert _file_reasons(settings) == [reason]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([[1, 2]]), "[1, 2]"),
        (pa.array([{"a": 1, "b": [b"\xff"]}]), '{"a": 1, "b": ["/w=="]}'),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), '[["k", 1]]'),
        (pa.array([timedelta(seconds=5)]), "PT5S"),
        (pa.array([b"\xff\xfe"]), "//4="),
        (pa.array([b"\xff\xfe"], pa.binary(2)), "//4="),
        (pa.array([b"\xff\xfe"]).dictionary_encode(), "//4="),
        (pa.array([b"plain"]), "plain"),
        (pa.array(['{"a": 1}'], pa.json_()), '{"a": 1}'),
        (pa.array([Decimal("12.50")], pa.decimal256(50, 2)), "12.50"),
        (pa.array([Decimal("9" * 60)], pa.decimal256(60, 0)), "9" * 60),
    ],
)
def test_an_unknown_column_of_any_type_is_kept_as_text(
    settings: Settings, drop: Any, values: "pa.Array", text: str
) -> None:
    drop(_parquet(odd=values), name="odd.parquet")
    ingest(settings=settings)
    assert _file_reasons(settings) == []
    [(extra,)] = _query(settings, "select extra from raw.transactions")
    assert json.loads(extra) == {"odd": text}


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-05 10:00:00+00",
        "2024-03-05 10:00:00.000+00",
        "2024-03-05T15:00:00+05",
        "2024-03-05T05:00-05",
        "2024-03-05T15:30+05:30",
        "2024-03-05T15:30+0530",
        "2024-03-05T10:00Z",
        "2024-03-05T10:00",
        "2024-03-05 10:00",
    ],
)
def test_moments_are_read_as_databases_and_people_write_them(
    settings: Settings, drop: Any, text: str
) -> None:
    drop(_csv([_row(1), _row(2, event_at=text), _row(3, event_at="2024-03-05T10:0")]))
    ingest(settings=settings)
    moments = _query(settings, "select event_at from raw.transactions")
    assert moments == [(datetime(2024, 3, 5, 10),)] * 2
    assert _row_reasons(settings) == [(4, "event_at is no timestamp: 2024-03-05T10:0")]


@pytest.mark.parametrize("zone", ["+05:30", "Z", "UTC", "Asia/Kolkata"])
def test_moments_of_any_zone_are_had_in_utc(settings: Settings, drop: Any, zone: str) -> None:
    moment = pa.array([datetime(2024, 3, 5, 10)], pa.timestamp("us", zone))
    drop(_parquet(event_at=moment), name="part.parquet")
    ingest(settings=settings)
    assert _query(settings, "select event_at from raw.transactions") == [
        (datetime(2024, 3, 5, 10),)
    ]


def test_columns_named_like_those_of_the_reader_are_kept(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1) + ",7,8"], HEADER + ",_line,_file"))
    drop(_parquet(2, _line=pa.array([7]), _file=pa.array([8])), name="part.parquet")
    ingest(settings=settings)
    found = _query(settings, "select extra from raw.transactions")
    assert [json.loads(extra) for (extra,) in found] == [{"_line": "7", "_file": "8"}] * 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (r'{"event_id": "\ud800"}', "the line holds half a character (a lone surrogate)"),
        (r'{"\udfff": 1}', "the line holds half a character (a lone surrogate)"),
        ('{"event_id": ' + "[" * 100_000, "the line is nested too deep"),
    ],
)
def test_a_line_of_json_that_is_no_text_costs_only_itself(
    settings: Settings, drop: Any, line: str, reason: str
) -> None:
    good = json.dumps(dict(zip(HEADER.split(","), _row(1).split(","), strict=True)))
    drop(f"{good}\n{line}\n", name="part.jsonl")
    assert ingest(settings=settings).rows == {"transactions": 1}
    assert _row_reasons(settings) == [(2, reason)]


def test_a_file_that_cannot_be_judged_waits_and_the_others_load(
    settings: Settings, drop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = load.judge

    def fail(feed: Any, frame: pl.DataFrame) -> Any:
        if "e3" in frame["event_id"]:
            raise pl.exceptions.PanicException("the value e3 is odd")
        return judge(feed, frame)

    monkeypatch.setattr(load, "judge", fail)
    for number in range(1, 6):
        drop(_csv([_row(number)]), name=f"part{number}.csv")
    assert ingest(settings=settings).rows == {"transactions": 4}
    assert _file_reasons(settings) == ["the file cannot be judged: PanicException"]


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (RuntimeError("4111 1111 1111 1111"), True),
        (OSError(errno.EIO, "broken"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (MemoryError(), False),
        (duckdb.IOException("lake"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_what_is_the_fault_of_a_file_makes_it_wait(
    settings: Settings,
    drop: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    waits: bool,
) -> None:
    def fail(_: Path) -> Any:
        raise error

    drop(_csv([_row(1)]))
    monkeypatch.setattr(load, "read_chunks", fail)
    if waits:
        ingest(settings=settings)
        assert _file_reasons(settings) == [f"the file cannot be read: {type(error).__name__}"]
    else:
        with pytest.raises(type(error)):
            ingest(settings=settings)


def test_files_being_written_are_passed_over(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]), name="part.csv.tmp")
    drop(_csv([_row(1)]), name=".hidden.csv")
    assert ingest(settings=settings).load_no is None


def test_a_feed_and_a_day_that_do_not_exist_are_reported(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]), feed="transaction")
    drop(_csv([_row(1)]), day="2024-13-01")
    ingest(settings=settings)
    assert sorted(_file_reasons(settings)) == [
        "the folder '2024-13-01' is no batch date (YYYY-MM-DD)",
        "there is no feed 'transaction'",
    ]


def test_files_outside_a_batch_date_are_reported(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]))
    (settings.landing_dir / "loose.csv").write_text(_csv([_row(2)]))
    (settings.landing_dir / "transactions" / "stray.csv").write_text(_csv([_row(3)]))
    assert ingest(settings=settings).files_loaded == 1
    assert _file_reasons(settings) == ["a file belongs into <feed>/<batch date>/"] * 2
    assert ingest(settings=settings).load_no is None


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (HEADER + ",note", _row(1) + ",pay 4111 1111 1111 1111 now"),
        (HEADER, _row(1, card_id="4111111111111111")),
        (HEADER, _row(1, amount_minor="4111-1111-1111-1111")),
        (HEADER + ",note", _row(1) + ",115-04-4507"),
    ],
)
def test_sensitive_numbers_reach_nothing(
    settings: Settings, drop: Any, header: str, row: str, caplog: Any
) -> None:
    drop(_csv([_row(0) + ",fine" if header != HEADER else _row(0), row], header))
    ingest(settings=settings)
    [reason] = _file_reasons(settings)
    assert "must be tokenised" in reason
    assert _query(settings, "select count(*) from raw.transactions") == [(0,)]
    assert _query(settings, "select count(*) from quarantine.rows") == [(0,)]
    secrets = (b"4111111111111111", b"4111 1111 1111 1111", b"4111-1111-1111-1111", b"115-04-4507")
    for path in settings.home.rglob("*"):
        if path.is_file() and settings.landing_dir not in path.parents:
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path
    assert not any(secret.decode() in caplog.text for secret in secrets)


CARD = "4111111111111111"


def _told(settings: Settings) -> str:
    """All that ingest keeps of files and rows, as one text."""
    tables = ("landing.files", "quarantine.files", "quarantine.rows", "raw.transactions")
    return repr([_query(settings, f"from {table}") for table in tables])


@pytest.mark.parametrize(
    "extra",
    [
        {"note": {"memo": f"card on file:\n{CARD}"}},
        {"note": {"memo": f"\t{CARD}"}},
        {"note": {"memo": f"caf\u00e9{CARD}"}},
        {"note": ["paid", {"by": [int(CARD)]}]},
        {"note": {"ssn": "115044507"}},
        {"note": {"person": {"ssn": 115044507}}},
        {f"x {CARD}": "fine"},
        {"note": {CARD: "fine"}},
    ],
)
def test_nothing_nested_hides_a_number(settings: Settings, drop: Any, extra: Any) -> None:
    row = dict(zip(HEADER.split(","), _row(1).split(","), strict=True)) | extra
    drop(json.dumps(row) + "\n", name="part.jsonl")
    ingest(settings=settings)
    [reason] = _file_reasons(settings)
    assert "must be tokenised" in reason
    assert _query(settings, "select count(*) from raw.transactions") == [(0,)]
    assert CARD not in _told(settings)
    assert "115044507" not in _told(settings)


@pytest.mark.parametrize("value", [115044507.0, 115044507, 15044507])
def test_a_column_named_for_it_may_be_of_numbers(
    settings: Settings, tmp_path: Path, drop: Any, value: float
) -> None:
    row = dict(zip(HEADER.split(","), _row(1).split(","), strict=True)) | {"ssn": value}
    frame = pl.DataFrame([row])
    frame.write_parquet(tmp_path / "part.parquet")
    drop((tmp_path / "part.parquet").read_bytes(), name="part.parquet")
    ingest(settings=settings)
    [reason] = _file_reasons(settings)
    assert "a social security number in column ssn" in reason
    assert _query(settings, "select count(*) from raw.transactions") == [(0,)]


@pytest.mark.parametrize(
    "place",
    [
        f"transactions/{DAY}/{CARD}.csv",
        f"transactions/{DAY}/4111-1111-1111-1111.csv",
        f"transactions/{DAY}/{CARD}/part.csv",
        f"transactions/{CARD}/part.csv",
        f"{CARD}/{DAY}/part.csv",
        f"{CARD}.csv",
        f"transactions/{DAY}/of {CARD}.txt",
    ],
)
def test_a_file_whose_place_is_named_by_a_number_waits_without_it(
    settings: Settings, drop: Any, place: str
) -> None:
    path = settings.landing_dir / place
    path.parent.mkdir(parents=True)
    path.write_text(_csv([_row(1)]))
    assert ingest(settings=settings).files_quarantined == 1
    [(told, reason)] = _query(settings, "select path, reason from quarantine.files")
    assert "[card number]" in told
    assert reason.startswith("a card number in the name of the file")
    assert CARD not in _told(settings).replace("-", "")
    assert ingest(settings=settings).load_no is None


@pytest.mark.parametrize(
    ("text", "manifest"),
    [
        (f"{CARD},a,{CARD}\n1,2,3\n", None),
        (_csv([_row(1) + ",fine"], f"{HEADER},{CARD}"), None),
        (_csv([_row(1)]), {"rows": CARD}),
        (_csv([_row(1)]), {"rows": int(CARD)}),
        (_csv([_row(1)]), {"control_totals": {CARD: 5}}),
        (_csv([_row(1)]), {"control_totals": {"amount_minor": {f"of {CARD}": 5}}}),
        (_csv([_row(1)]), {"sequence_no": int(CARD)}),
    ],
)
def test_no_header_and_no_manifest_has_its_numbers_told(
    settings: Settings, drop: Any, capfd: Any, text: str, manifest: dict[str, Any] | None
) -> None:
    drop(text, manifest=manifest)
    assert ingest(settings=settings).files_quarantined == 1
    assert CARD not in _told(settings)
    assert CARD not in "".join(capfd.readouterr())


def test_a_kill_before_the_commit_leaves_no_trace_in_the_next_run(
    settings: Settings, drop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = drop(_csv([_row(1)]), name="lost.csv")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(load, "_record", die)
        with pytest.raises(KeyboardInterrupt):
            ingest(settings=settings)
    assert len(list(settings.raw_dir.rglob("*.parquet"))) == 1
    lost.unlink()
    drop(_csv([_row(2)]), name="kept.csv")
    ingest(settings=settings)
    assert _query(settings, "select event_id from raw.transactions") == [("e2",)]
    assert len(list(settings.raw_dir.rglob("*.parquet"))) == 1


def test_raw_rows_are_plain_parquet_by_batch_date(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]))
    ingest(settings=settings)
    [path] = (settings.raw_dir / "transactions" / f"batch_date={DAY}").glob("*.parquet")
    found = duckdb.sql(f"select event_id, batch_date from read_parquet('{path}')").fetchall()
    assert found == [("e1", date(2024, 3, 5))]


def _found(settings: Settings) -> list[tuple[Any, ...]]:
    return _query(
        settings,
        "select kind, record_key, detail from landing.findings order by kind, record_key",
    )


def test_fresh_findings_are_those_of_the_last_ingest(settings: Settings, drop: Any) -> None:
    def fresh() -> list[tuple[Any, ...]]:
        query = f"select kind, record_key, detail from ({fresh_findings()}) order by all"
        return _query(settings, query)

    account = {
        "account_id": "a1", "customer_id": "u1", "program_id": "p1", "opened_on": "2024-01-01",
        "credit_limit_minor": "1000", "currency": "USD", "updated_at": "2024-01-01T00:00:00Z",
        "status": "OPEN",
    }  # fmt: skip
    drop(_csv([",".join(account.values())], ",".join(account)), feed="accounts")
    drop(_csv([_row(1), _row(2, account_id="a9")]))
    ingest(settings=settings)
    orphan = ("ORPHAN_KEY", "e2", "account_id is in no row of accounts: a9")
    assert fresh() == _found(settings) == [orphan]

    drop(_csv([_row(1, amount_minor="175")]), name="mended.csv")
    ingest(settings=settings)
    correction = ("CORRECTION", "e1", "version 2")
    assert fresh() == [correction]
    assert _found(settings) == [correction, orphan]


def test_what_had_not_happened_when_it_was_delivered_waits(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1), _row(2, event_at="2024-03-07T00:00:00Z")]))
    drop(_csv([_row(3, event_at="2024-03-06T23:59:59Z")]), name="next_day_somewhere.csv")
    drop(
        _csv([_row(4, event_at="2024-03-20T00:00:00Z")]),
        name="received_later.csv",
        manifest={"received_at": "2024-03-20T08:00:00Z"},
    )
    assert ingest(settings=settings).rows == {"transactions": 3}
    assert _row_reasons(settings) == [(3, "event_at is after the delivery: 2024-03-07")]


def test_a_missing_number_in_a_sequence_is_found(settings: Settings, drop: Any) -> None:
    for number, day in ((1, "2024-03-01"), (2, "2024-03-02"), (5, "2024-03-05")):
        row = _row(number, event_at=f"{day}T10:00:00Z")
        drop(_csv([row]), day=day, manifest={"sequence_no": number})
    drop(_csv([_row(9)]), name="other.csv", manifest={"sequence_no": 7})
    ingest(settings=settings)
    assert _found(settings) == [
        ("FILE_MISSING", "3", "part: between 2024-03-02 and 2024-03-05"),
        ("FILE_MISSING", "4", "part: between 2024-03-02 and 2024-03-05"),
    ]
    drop(
        _csv([_row(3, event_at="2024-03-03T10:00:00Z")]),
        day="2024-03-03",
        manifest={"sequence_no": 3},
    )
    ingest(settings=settings)
    assert [(kind, key) for kind, key, _ in _found(settings)] == [
        ("FILE_LATE", None),
        ("FILE_MISSING", "4"),
    ]


def test_corrections_repeats_and_orphans_are_found(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1), _row(2), _row(2)]))
    drop(_csv([_row(1, amount_minor="175")]), day="2024-03-06")
    drop(
        "account_id,customer_id,program_id,opened_on,credit_limit_minor,currency,updated_at\n"
        "a2,c1,p1,2024-01-01,1000,USD,2024-01-01T00:00:00Z\n",
        feed="accounts",
    )
    ingest(settings=settings)
    kinds = [(kind, key) for kind, key, _ in _found(settings)]
    # Cards, merchants and customers never arrived at all: nothing can be said of those keys.
    assert kinds == [
        ("CORRECTION", "e1"),
        ("ORPHAN_KEY", "e1"),
        ("ORPHAN_KEY", "e1"),
        ("ORPHAN_KEY", "e2"),
        ("ORPHAN_KEY", "e2"),
        ("ROW_AGAIN", "e2"),
    ]


def test_a_mended_file_is_no_finding_any_more(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]), manifest={"rows": 2})
    drop(_csv([_row(2)]), day="2024-03-08")
    ingest(settings=settings)
    assert [kind for kind, *_ in _found(settings)] == ["FILE_REFUSED"]
    drop(_csv([_row(1)]), manifest={"rows": 1})
    ingest(settings=settings)
    assert _found(settings) == []


def test_the_digits_of_a_coordinate_are_no_card_number(settings: Settings, drop: Any) -> None:
    rows = [_row(1) + ",41.4111111111111111", _row(2, direction="UP") + ",41.4111111111111111"]
    drop(_csv(rows, HEADER + ",latitude"))
    ingest(settings=settings)
    assert _file_reasons(settings) == []
    assert len(_row_reasons(settings)) == 1
    drop(_csv([_row(3), _row(4) + "1"], HEADER).replace("DEBIT1", "4111111111111111"), name="x.csv")
    ingest(settings=settings)
    [reason] = _file_reasons(settings)
    assert "a card number" in reason


def test_a_warehouse_made_before_sequence_numbers_gains_them(settings: Settings, drop: Any) -> None:
    drop(_csv([_row(1)]))
    ingest(settings=settings)
    with connect(settings=settings) as con:
        con.execute("drop view landing.findings")
        con.execute("alter table landing.files drop column sequence_no")
    # A later process opens it.
    warehouse._OPENED.clear()
    drop(_csv([_row(2)]), day="2024-03-06", manifest={"sequence_no": 4})
    ingest(settings=settings)
    assert _query(settings, "select sequence_no from landing.files order by batch_date") == [
        (None,),
        (4,),
    ]
    assert _found(settings) == []
