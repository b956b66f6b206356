"""Partners' rate cards: tiers, shares and guarantees, one rounding a line, billed for good."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.errors import CardlineError
from pipelines.finance.rate_cards import (
    are_published,
    publish_rate_cards,
    rate_card_rows,
    read_rate_cards,
)
from pipelines.settings import Settings
from pipelines.transform import dbt
from pipelines.warehouse import connect
from tests.integration.finance.test_closing import APRIL, MARCH, PROGRAM, Home, bought
from tests.rewards_lab import instruction

CARD = """
program: lab
version: 1
valid_from: 2024-01-01
components:
  NET_SALES_BPS: {tiers: [{from: 0, bps: 10}, {from: 100000, bps: 15}]}
  INTERCHANGE_SHARE_BPS: {bps: 2000}
  ANNUAL_FEE_SHARE: {bps: 2500, fee_amounts: [9500, 9999, 4457]}
  LOSS_SHARE: {bps: 3000, direction: RECEIVABLE}
  NEW_ACCOUNT: {rate: 7500}
  ACTIVATION: {rate: 1000}
  POINT_PURCHASE: {tiers: [{from: 0, rate: "1.25"}, {from: 50, rate: "1.1"}]}
  MARKETING_FUND: {rate: "2500.5", direction: RECEIVABLE}
  GUARANTEE_TRUE_UP: {rate: 50000}
"""


def posted(
    con, number: int, amount: int, on: date, class_: str = "PURCHASE", direction: str = "DEBIT",
    currency: str = "USD",
) -> None:  # fmt: skip
    if class_ in ("REFUND", "WRITE_OFF"):
        direction = "CREDIT"
    con.execute(
        "insert into marts.fct_posted_transactions values (?, 'a0', 'lab', ?, ?, ?, ?, ?)",
        [f"t{number}", on, amount, direction, class_, currency],
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """March with sales of 1,234.57, interchange of 180.4 units, fees, a write-off, one new account
    and 80 points sent to the partner."""
    folder = tmp_path_factory.mktemp("cards")
    (folder / "cards").mkdir()
    (folder / "cards" / "lab.yaml").write_text(CARD)
    home = Home(folder / "home")
    home.settings = Settings(home=folder / "home", rate_cards=folder / "cards")  # pyright: ignore
    publish_rate_cards(home.settings)
    with connect(settings=home.settings) as con:
        posted(con, 1, 120_000, date(2024, 3, 5))
        posted(con, 2, 4_457, date(2024, 3, 9))
        posted(con, 3, 1_000, date(2024, 3, 20), "REFUND")
        posted(con, 4, 9_999, date(2024, 3, 21), "FEE")
        posted(con, 7, 9_500, date(2024, 3, 22), "FEE")
        posted(con, 8, 9_500, date(2024, 3, 23), "FEE", "CREDIT")
        posted(con, 9, 4_000, date(2024, 3, 24), "FEE")
        posted(con, 10, 9_500, date(2024, 3, 25), "FEE")
        posted(con, 6, 20_005, date(2024, 3, 28), "WRITE_OFF")
        # Money of another currency is in no line.
        for number, class_ in enumerate(("PURCHASE", "FEE", "WRITE_OFF", "INTEREST"), start=20):
            posted(con, number, 9_500, date(2024, 3, 27), class_, currency="JPY")
        for number, direction, micros, currency in (
            (1, "DEBIT", 200_400_000, "USD"),
            (3, "CREDIT", 20_000_000, "USD"),
            (20, "DEBIT", 7_000_000, "JPY"),
        ):
            con.execute(
                "insert into marts.fct_settlement_details values "
                "(?, 'VISA', date '2024-03-10', 'CLEARING', 1, ?, ?, ?, null, ?)",
                [f"d{number}", currency, direction, f"t{number}", micros],
            )
        con.execute(
            "insert into marts.dim_accounts (account_id, program_id, opened_on) values "
            "('a0', 'lab', date '2024-03-01'), ('a1', 'lab', date '2024-02-11')"
        )
    home.deliver(
        [bought(1, 9_000, date(2024, 3, 5))],
        [instruction("x1", "a1", "TRANSFER", date(2024, 3, 20), 80)],
        through=date(2024, 4, 20),
    )
    home.deliver([bought(2, 9_000, date(2024, 4, 5), date(2024, 4, 21))], through=date(2024, 5, 1))
    return home


def lines(home: Home, period: str) -> dict[str, tuple[str, Decimal, int]]:
    found = home.frame(
        f"select * from finance.partner_invoice_lines where period = '{period}' "
        "and rate_card_version is not null"
    )
    assert (found["amount_extended"] - found["rounding_residue"] == found["amount_minor"]).all()
    return {
        row["invoice_line_id"].split(":", 2)[2]: (
            row["direction"], row["amount_extended"].normalize(), row["amount_minor"],
        )
        for row in found.iter_rows(named=True)
    }  # fmt: skip


def test_components_are_priced_by_hand_worked_figures_and_billed_for_good(home: Home) -> None:
    march = lines(home, MARCH)
    assert march == {
        # 100,000 at 10 bps and 23,457 at 15 bps.
        "NET_SALES_BPS": ("PAYABLE", Decimal("135.1855"), 135),
        "INTERCHANGE_SHARE_BPS": ("PAYABLE", Decimal("36.08"), 36),
        # 9,999 and 9,500, another 9,500 and its return; a late fee and a purchase are none.
        "ANNUAL_FEE_SHARE": ("PAYABLE", Decimal("4874.75"), 4_875),
        "LOSS_SHARE": ("RECEIVABLE", Decimal("6001.5"), 6_002),
        "NEW_ACCOUNT": ("PAYABLE", Decimal("7500").normalize(), 7_500),
        "ACTIVATION": ("PAYABLE", Decimal("1000").normalize(), 1_000),
        "MARKETING_FUND": ("RECEIVABLE", Decimal("2500.5"), 2_501),
        # 50 points at 1.25 and 30 at 1.1.
        "POINT_PURCHASE": ("PAYABLE", Decimal("95.5"), 96),
        "GUARANTEE_TRUE_UP": ("PAYABLE", Decimal("36358.4845"), 36_358),
    }
    details = home.frame(
        f"select component, sum(quantity_micros)::bigint as q, count(*) as n "
        f"from finance.partner_share_details where period = '{MARCH}' group by all order by all"
    ).rows()
    assert details == [
        ("ACTIVATION", 1_000_000, 1), ("ANNUAL_FEE_SHARE", 19_499_000_000, 4),
        ("INTERCHANGE_SHARE_BPS", 180_400_000, 2),
        ("LOSS_SHARE", 20_005_000_000, 1), ("NET_SALES_BPS", 123_457_000_000, 3),
        ("NEW_ACCOUNT", 1_000_000, 1), ("POINT_PURCHASE", 80_000_000, 1),
    ]  # fmt: skip
    bought_points = home.frame(
        "select points from finance.partner_invoice_lines where component = 'POINT_PURCHASE'"
    )
    assert bought_points["points"].to_list() == [80]
    booked = dict(
        home.frame(
            "select account_code, sum(debit_minor - credit_minor)::bigint from finance.gl_entries "
            f"where period = '{MARCH}' and source like 'PARTNER_%' group by all"
        ).rows()
    )
    assert booked == {"5020": 49_904, "2210": -49_904, "1210": 8_503, "4200": -8_503}
    payable = home.frame(
        "select credit_minor from finance.gl_entries where account_code = '2200' "
        f"and period = '{MARCH}'"
    )
    assert payable["credit_minor"].to_list() == [96]

    assert home.close(MARCH) == [f"{MARCH} CLOSED 1"]
    with connect(settings=home.settings) as con:
        posted(con, 5, 10_000, date(2024, 3, 30))
    dbt(["run", "--select", "finance"], home.settings)
    assert lines(home, MARCH) == march
    assert home.broken() == {}
    april = lines(home, APRIL)
    assert april[f"NET_SALES_BPS:{MARCH}"] == ("PAYABLE", Decimal("15"), 15)
    assert april[f"GUARANTEE_TRUE_UP:{MARCH}"] == ("PAYABLE", Decimal("-15"), -15)
    assert f"NEW_ACCOUNT:{MARCH}" not in april

    path = home.settings.rate_cards / "lab.yaml"  # pyright: ignore[reportOptionalOperand]
    path.write_text(CARD.replace("bps: 2000", "bps: 2500"))
    with pytest.raises(CardlineError, match="version 1 of lab was changed after"):
        publish_rate_cards(home.settings)
    later = CARD.replace("version: 1", "version: 2").replace("2024-01-01", "2024-04-01")
    path.write_text(f"{CARD}---{later.replace('bps: 2000', 'bps: 2500')}")
    rows = publish_rate_cards(home.settings)
    assert set(rows.filter(version=1)["valid_to"]) == {date(2024, 3, 31)}
    assert PROGRAM in set(rows["program_id"])


def test_cards_that_are_not_published_yet_are_news(home: Home, tmp_path: Path) -> None:
    other = home.settings.model_copy(update={"rate_cards": tmp_path})
    with connect(read_only=True, settings=home.settings) as con:
        assert are_published(con, home.settings)
        assert not are_published(con, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("bps: 2000", "rate: 20"), "priced by `bps`"),
        (("{from: 0, bps: 10}", "{from: 5, bps: 10}"), "start at 0 and rise"),
        (("rate: 7500", "rate: 0.0000001"), "six decimals"),
        (("NEW_ACCOUNT", "YEARLY_BONUS"), "NET_SALES_BPS"),
        ((", fee_amounts: [9500, 9999, 4457]", ""), "fee_amounts"),
        (("{bps: 2000}", "{bps: 2000, fee_amounts: [9500]}"), "fee_amounts"),
        (("fee_amounts: [9500, 9999, 4457]", "fee_amounts: [0]"), "greater than 0"),
        (("version: 1", "version: 0"), "version"),
        (("version: 1", "version: 1\nversion: 1"), "card.yaml:4: .*'version' is there twice"),
        (
            ("{bps: 2000}", "{bps: 20000}"),
            "card.yaml:7: components.INTERCHANGE_SHARE_BPS.bps: .*less than or equal to 10000",
        ),
        (
            ("{rate: 7500}", "{rate: -1}"),
            "card.yaml:10: components.NEW_ACCOUNT.rate: .*or equal to 0",
        ),
        (("version: 1", "version: 1\n[1, 2]: 3"), "card.yaml:4: .*unhashable key"),
        (("valid_from: 2024-01-01", "valid_from: 2024-02-30"), "2024-02-30: day is out of range"),
        (("{rate: 7500}", "{rate: 7500, tiers: [{from: 0, rate: 1}]}"), "tiers and a rate"),
    ],
)
def test_a_wrong_card_is_told_with_its_field(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    (tmp_path / "card.yaml").write_text(CARD.replace(*change))
    with pytest.raises(CardlineError, match=message):
        read_rate_cards(tmp_path)
    assert rate_card_rows(read_rate_cards(None)).is_empty()
    with pytest.raises(CardlineError, match="no such folder of rate cards"):
        read_rate_cards(tmp_path / "nowhere")
