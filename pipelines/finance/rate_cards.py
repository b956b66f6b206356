"""Partners' rate cards: effective-dated YAML, a document a version, published as a table.

    program: skyline_miles
    version: 1
    valid_from: 2025-01-01
    components:
      NEW_ACCOUNT: {rate: 7500}
      NET_SALES_BPS: {tiers: [{from: 0, bps: 10}, {from: 1000000, bps: 15}]}
      MARKETING_FUND: {rate: 250000, direction: RECEIVABLE}

Rates and tiers are of a month and in minor units of the program's currency, accounts or ledger
units of points. No feed says which fee is the annual one: a share of annual fees names the amounts
that are (`fee_amounts`).
"""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import CardlineError
from pipelines.rewards.yaml_lines import read_documents
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import connect, transaction

SHARES = (
    "NET_SALES_BPS", "INTERCHANGE_SHARE_BPS", "ANNUAL_FEE_SHARE", "INTEREST_SHARE", "LOSS_SHARE",
)  # fmt: skip
Component = Literal[
    "NET_SALES_BPS", "INTERCHANGE_SHARE_BPS", "ANNUAL_FEE_SHARE", "INTEREST_SHARE", "LOSS_SHARE",
    "NEW_ACCOUNT", "ACTIVATION", "POINT_PURCHASE", "MARKETING_FUND", "GUARANTEE_TRUE_UP",
]  # fmt: skip
GREATEST = 10**12
"""No rate and no tier's start is beyond it."""
Bps = Annotated[int, Field(ge=0, le=10_000)]
Rate = Annotated[Decimal, Field(ge=0, le=GREATEST)]
_MICROS_A_BASIS_POINT = 100
_MICROS = 1_000_000

_SCHEMA = pl.Schema(
    {
        "program_id": pl.String, "component": pl.String, "direction": pl.String,
        "tier_from": pl.Int64, "tier_to": pl.Int64, "rate_micros": pl.Int64, "unit": pl.String,
        "valid_from": pl.Date, "valid_to": pl.Date, "version": pl.Int64,
        "fee_amounts": pl.List(pl.Int64),
    }
)  # fmt: skip
_KEY = ("program_id", "version", "component", "tier_from")


class Tier(BaseModel):
    """A rate from a month's quantity on: `bps` of money, or `rate` in minor units each."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start: int = Field(0, alias="from", ge=0, le=GREATEST)
    bps: Bps | None = None
    rate: Rate | None = None


class Terms(BaseModel):
    """One component's rate, or its tiers, and who owes it.

    `fee_amounts`, of a share of annual fees only, are the fees (minor units) that are annual ones.
    """

    model_config = ConfigDict(extra="forbid")

    bps: Bps | None = None
    rate: Rate | None = None
    tiers: list[Tier] = Field(default_factory=list)
    direction: Literal["PAYABLE", "RECEIVABLE"] = "PAYABLE"
    fee_amounts: list[Annotated[int, Field(gt=0)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rate_or_tiers(self) -> "Terms":
        if self.tiers and (self.bps, self.rate) != (None, None):
            raise ValueError("has tiers and a rate of its own")
        return self

    def in_tiers(self) -> list[Tier]:
        """The tiers; a single rate is one from zero."""
        return self.tiers or [Tier.model_validate({"from": 0, "bps": self.bps, "rate": self.rate})]


class RateCard(BaseModel):
    """One version of a program's rate card."""

    model_config = ConfigDict(extra="forbid")

    program: str
    version: int = Field(ge=1)
    valid_from: date
    components: dict[Component, Terms]

    @model_validator(mode="after")
    def _rates_are_whole(self) -> "RateCard":
        for name, terms in self.components.items():
            tiers = terms.in_tiers()
            starts = [tier.start for tier in tiers]
            if starts[0] != 0 or starts != sorted(set(starts)):
                raise ValueError(f"{name}: tiers start at 0 and rise")
            for tier in tiers:
                asked, other = ("bps", "rate") if name in SHARES else ("rate", "bps")
                if getattr(tier, asked) is None or getattr(tier, other) is not None:
                    raise ValueError(f"{name}: is priced by `{asked}`")
                if tier.rate is not None and tier.rate * _MICROS != int(tier.rate * _MICROS):
                    raise ValueError(f"{name}: a rate has six decimals at most")
            if name in ("MARKETING_FUND", "GUARANTEE_TRUE_UP") and len(tiers) > 1:
                raise ValueError(f"{name}: has no tiers")
            if (name == "ANNUAL_FEE_SHARE") != bool(terms.fee_amounts):
                raise ValueError(
                    f"{name}: `fee_amounts` tells which fees are annual ones, for ANNUAL_FEE_SHARE"
                )
        return self


def read_rate_cards(folder: Path | None) -> list[RateCard]:
    """Every card in `folder`; `CardlineError` with file, line and field for one that is wrong."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise CardlineError(f"{folder}: no such folder of rate cards (CARDLINE_RATE_CARDS)")
    cards: list[RateCard] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        for document, lines in read_documents(path):
            try:
                cards.append(RateCard.model_validate(document))
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"])
                line = lines.of(first["loc"])
                raise CardlineError(f"{path}:{line}: {field}: {first['msg']}") from error
    keys = [(card.program, card.version) for card in cards]
    dates = [(card.program, card.valid_from) for card in cards]
    if len(set(keys)) < len(keys) or len(set(dates)) < len(dates):
        raise CardlineError(f"{folder}: a program has two rate cards of one version or date")
    return sorted(cards, key=lambda card: (card.program, card.valid_from))


def rate_card_rows(cards: list[RateCard]) -> pl.DataFrame:
    """Rows of `finance.partner_rate_cards`: a row a component and tier."""
    rows = []
    for index, card in enumerate(cards):
        later = cards[index + 1] if index + 1 < len(cards) else None
        ends = None
        if later is not None and later.program == card.program:
            ends = later.valid_from - timedelta(days=1)
        for name, terms in card.components.items():
            tiers = terms.in_tiers()
            for tier, following in zip(tiers, [*tiers[1:], None], strict=True):
                rate = (
                    tier.bps * _MICROS_A_BASIS_POINT
                    if tier.bps is not None
                    else int((tier.rate or Decimal(0)) * _MICROS)
                )
                rows.append(
                    (
                        card.program, name, terms.direction, tier.start,
                        following.start if following else None, rate,
                        "BPS" if tier.bps is not None else "MINOR", card.valid_from, ends,
                        card.version, sorted(terms.fee_amounts) or None,
                    )
                )  # fmt: skip
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def are_published(con: duckdb.DuckDBPyConnection, settings: Settings) -> bool:
    """Whether `finance.partner_rate_cards` is what the folder says."""
    return _equal(_standing(con), rate_card_rows(read_rate_cards(settings.rate_cards)))


def publish_rate_cards(settings: Settings | None = None) -> pl.DataFrame:
    """Make `finance.partner_rate_cards` what the folder says; returns it.

    Raises `CardlineError` where a version that a closed month was billed by has changed or is gone.
    """
    settings = settings or get_settings()
    rows = rate_card_rows(read_rate_cards(settings.rate_cards))
    with connect(settings=settings) as con, transaction(con):
        standing = _standing(con)
        if _equal(standing, rows):
            return rows
        _refuse_changes_of_billed(con, standing, rows)
        con.register("rate_cards", rows.to_arrow())
        con.execute("delete from finance.partner_rate_cards")
        con.execute("insert into finance.partner_rate_cards by name select * from rate_cards")
    return rows


def _standing(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    standing = con.execute("select * from finance.partner_rate_cards").pl()
    # A home that nothing has been written to since may lack columns.
    whole = pl.concat([pl.DataFrame(schema=_SCHEMA), standing], how="diagonal_relaxed")
    return whole.cast(dict(_SCHEMA))  # pyright: ignore[reportArgumentType]


def _equal(standing: pl.DataFrame, rows: pl.DataFrame) -> bool:
    return standing.sort(_KEY).equals(rows.sort(_KEY))


def _refuse_changes_of_billed(
    con: duckdb.DuckDBPyConnection, standing: pl.DataFrame, rows: pl.DataFrame
) -> None:
    billed = con.execute(
        "select distinct program_id, rate_card_version from finance.closed_invoice_lines"
    ).fetchall()
    for program, version in billed:
        mine = (pl.col("program_id") == program) & (pl.col("version") == version)
        # That a version ends is told by the next one; it says nothing else about it.
        before = standing.filter(mine).drop("valid_to").sort(_KEY)
        if not before.equals(rows.filter(mine).drop("valid_to").sort(_KEY)):
            raise CardlineError(
                f"rate card version {version} of {program} was changed after a closed month was "
                "billed by it; restore it and add a new version instead"
            )
