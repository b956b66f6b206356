"""What the synthetic world must contain, each item counted from the landing files alone."""

from collections.abc import Callable
from datetime import date

import polars as pl
import pytest

from pipelines.contracts.activity import EVENT_TYPES
from pipelines.sources.world import generate

Rows = Callable[[str], pl.DataFrame]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The feeds of one world, by name."""
    landing = tmp_path_factory.mktemp("world") / "landing"
    generate(landing, 700, 540, 5, date(2026, 10, 31))
    held: dict[str, pl.DataFrame] = {}

    def feed(name: str) -> pl.DataFrame:
        if name not in held:
            files = sorted((landing / name).glob("*/*.parquet"))
            held[name] = pl.concat([pl.read_parquet(file) for file in files], how="diagonal")
        return held[name]

    return feed


def _latest(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    return frame.sort("received_at").group_by(key, maintain_order=True).last()


def _is(*values: str) -> pl.Expr:
    return pl.col("event_type").is_in(list(values))


def _counted(rows: Rows) -> dict[str, int]:
    """Every item of the world's list and how often it is there."""
    return {
        **_of_applications(rows),
        **_of_bureau(rows),
        **_of_accounts(rows),
        **_of_transactions(rows),
        **_of_refunds(rows),
        **_of_disputes(rows),
        **_of_settlement(rows),
        **_of_rewards(rows),
        **_of_fraud(rows),
    }


def _of_applications(rows: Rows) -> dict[str, int]:
    last = _latest(rows("applications"), "application_id")
    by_person = last.sort("submitted_at").with_columns(
        wait=pl.col("submitted_at").diff().over("person_id")
    )
    rings = (
        last.filter(pl.col("account_id").is_not_null())
        .group_by("device_id", "ip_hash")
        .agg(people=pl.col("person_id").n_unique())
    )
    counts = dict(last.group_by("decision").len().iter_rows())
    return {
        **{f"application {name}": counts.get(name, 0) for name in (
            "APPROVED", "DECLINED", "COUNTER_OFFER", "WITHDRAWN", "INCOMPLETE",
        )},
        "pending version": rows("applications").filter(pl.col("decision") == "PENDING").height,
        "counter-offer taken up": last.filter(
            pl.col("decision") == "COUNTER_OFFER", pl.col("account_id").is_not_null()
        ).height,
        "approved and not booked": last.filter(
            pl.col("decision") == "APPROVED", pl.col("account_id").is_null()
        ).height,
        "duplicate within the hour": by_person.filter(
            pl.col("wait") <= pl.duration(minutes=60)
        ).height,
        "second application months later": by_person.filter(
            pl.col("wait") > pl.duration(days=30)
        ).height,
        "decided by hand": last.filter(pl.col("decision_source") == "manual").height,
        "application ring": rings.filter(pl.col("people") >= 3).height,
    }  # fmt: skip


def _of_bureau(rows: Rows) -> dict[str, int]:
    hits = dict(rows("bureau_pulls").group_by("file_hit").len().iter_rows())
    kinds = dict(rows("bureau_records").group_by("kind").len().iter_rows())
    late = rows("bureau_tradelines").filter(pl.col("payment_history").str.contains("[1-6]"))
    return {
        **{f"file {n}": hits.get(n, 0) for n in ("HIT", "THIN", "NO_HIT", "FROZEN", "FRAUD_ALERT")},
        **{f"record {n}": kinds.get(n, 0) for n in ("COLLECTION", "BANKRUPTCY", "JUDGMENT")},
        "tradeline with late months": late.height,
        "trended month": rows("bureau_trended").height,
        "inquiry": rows("bureau_inquiries").height,
        "special code": rows("bureau_attributes")["special_code"].drop_nulls().len(),
    }


def _of_accounts(rows: Rows) -> dict[str, int]:
    versions = rows("accounts")
    per_account = versions.group_by("account_id").agg(
        rates=pl.col("apr_bps").n_unique(), limits=pl.col("credit_limit_minor").n_unique()
    )
    states = dict(rows("cards").group_by("state").len().iter_rows())
    dpd = pl.col("days_past_due")
    customers = rows("customers").group_by("customer_id").agg(pl.col("state").n_unique(), pl.len())
    return {
        **{f"program {name}": count for name, count in
           versions.group_by("program_id").agg(pl.col("account_id").n_unique()).iter_rows()},
        "rate changed mid-year": per_account.filter(pl.col("rates") > 1).height,
        "limit changed": per_account.filter(pl.col("limits") > 1).height,
        "suspended": versions.filter(pl.col("status") == "SUSPENDED").height,
        "closed on request": versions.filter(pl.col("substatus") == "END_USER_REQUEST").height,
        "charged off": versions.filter(pl.col("charge_off_on").is_not_null()).height,
        **{f"{low} to {low + 29} days past due": rows("statements").filter(
            dpd.is_between(low, low + 29)).height for low in (1, 30, 60, 90, 120, 150)},
        "payment returned": rows("payments").filter(pl.col("state") == "RETURNED").height,
        "card lost": states.get("LOST", 0),
        "card compromised": states.get("COMPROMISED", 0),
        "card worn and reissued": states.get("CLOSED", 0),
        "replacement known": rows("cards")["replaced_by"].drop_nulls().len(),
        "customer changed": customers.filter(pl.col("len") > 1).height,
    }  # fmt: skip


def _of_transactions(rows: Rows) -> dict[str, int]:
    events = rows("transactions")
    asked = events.filter(_is("AUTHORIZATION", "FINANCIAL_AUTHORIZATION", "AUTHORIZATION_ADVICE"))
    asked = asked.filter(pl.col("auth_result") == "APPROVED")
    held = asked.group_by("transaction_id").agg(
        held=pl.col("amount_minor").sum(), asked_mcc=pl.col("mcc").first(), messages=pl.len(),
        asked_country=pl.col("merchant_country").first(),
    )  # fmt: skip
    cleared = events.filter(_is("CLEARING")).group_by("transaction_id").agg(
        cleared=pl.col("amount_minor").sum(), pieces=pl.len(), mcc=pl.col("mcc").first()
    )  # fmt: skip
    both = cleared.join(held, on="transaction_id", how="left")
    given_back = events.filter(_is("AUTHORIZATION_REVERSAL")).group_by("transaction_id").agg(
        back=pl.col("amount_minor").sum()
    ).join(held, on="transaction_id")  # fmt: skip
    expired = events.filter(_is("AUTHORIZATION_EXPIRY")).select("transaction_id")
    fees = events.filter(pl.col("transaction_class") == "FEE")
    abroad = both.filter(pl.col("asked_country") != "US")
    kinds = dict(events.group_by("event_type").len().iter_rows())
    return {
        **{kind: kinds.get(kind, 0) for kind in EVENT_TYPES},
        "declined": events.filter(pl.col("auth_result") == "DECLINED").height,
        "several clearings": both.filter(pl.col("pieces") > 1).height,
        "force post": both.filter(pl.col("held").is_null()).height,
        "expired, then cleared": expired.join(cleared, on="transaction_id").height,
        "tip": both.filter(pl.col("mcc") == "5812", pl.col("cleared") > pl.col("held")).height,
        "incremental authorization": held.filter(pl.col("messages") > 1).height,
        "partial reversal": given_back.filter(pl.col("back") < pl.col("held")).height,
        "full reversal": given_back.filter(pl.col("back") == pl.col("held")).height,
        "category changed": both.filter(pl.col("mcc") != pl.col("asked_mcc")).height,
        "rate of exchange moved": abroad.filter(pl.col("cleared") != pl.col("held")).height,
        "fee as its own row": fees.height,
        "cash advance": events.filter(pl.col("transaction_class") == "CASH_ADVANCE").height,
        "balance transfer": events.filter(pl.col("transaction_class") == "BALANCE_TRANSFER").height,
    }


def _of_refunds(rows: Rows) -> dict[str, int]:
    events = rows("transactions")
    bought = events.filter(_is("CLEARING")).group_by("transaction_id").agg(
        bought=pl.col("amount_minor").sum(), bought_on=pl.col("posted_on").max()
    )  # fmt: skip
    refunds = events.filter(_is("RETURN", "FINANCIAL_CREDIT_AUTHORIZATION"))
    linked = refunds.filter(pl.col("original_transaction_id").is_not_null()).join(
        bought, left_on="original_transaction_id", right_on="transaction_id"
    )
    per_purchase = linked.group_by("original_transaction_id").agg(
        back=pl.col("amount_minor").sum(), parts=pl.len(), bought=pl.col("bought").first()
    )
    bare = refunds.filter(
        pl.col("original_transaction_id").is_null(), pl.col("network_transaction_id").is_null()
    )
    seen = events.filter(_is("CLEARING")).select("account_id", "merchant_id").unique()
    closed = rows("accounts").filter(pl.col("closed_on").is_not_null()).group_by("account_id").agg(
        pl.col("closed_on").min()
    )  # fmt: skip
    gone = refunds.join(closed, on="account_id").filter(pl.col("posted_on") > pl.col("closed_on"))
    month = pl.col("posted_on").dt.truncate("1mo") > pl.col("bought_on").dt.truncate("1mo")
    back, paid = pl.col("back"), pl.col("bought")
    return {
        "full refund": per_purchase.filter(back == paid, pl.col("parts") == 1).height,
        "partial refund": per_purchase.filter(back < paid).height,
        "several refunds": per_purchase.filter(pl.col("parts") > 1).height,
        "over-refund": per_purchase.filter(back > paid).height,
        "unmatched refund": bare.join(seen, on=["account_id", "merchant_id"], how="anti").height,
        "refund after closure": gone.height,
        "refund after period close": linked.filter(month).height,
    }


def _of_disputes(rows: Rows) -> dict[str, int]:
    kinds = dict(rows("disputes").group_by("event_type").len().iter_rows())
    closed = rows("disputes").filter(pl.col("event_type") == "CLOSED")
    ends = dict(closed.group_by("disposition").len().iter_rows())
    stages = (
        "CLAIM", "PROVISIONAL_CREDIT_GRANTED", "COLLABORATION", "CHARGEBACK", "REPRESENTMENT",
        "PREARBITRATION", "ARBITRATION", "PROVISIONAL_CREDIT_REVERSED", "WRITTEN_OFF", "CLOSED",
    )  # fmt: skip
    dispositions = ("WON", "PARTIALLY_WON", "LOST", "DENIED", "WITHDRAWN")
    return {
        **{f"dispute {name}": kinds.get(name, 0) for name in stages},
        **{f"dispute {name}": ends.get(name, 0) for name in dispositions},
    }


def _of_settlement(rows: Rows) -> dict[str, int]:
    totals = rows("settlement_totals")
    early = totals.filter(~pl.col("is_complete"))
    complete = totals.filter("is_complete").select("total_id", finished="received_at")
    micros = rows("settlement_details")["interchange_micros"].drop_nulls()
    return {
        "settlement total": totals.height,
        "incomplete, then completed": early.join(complete, on="total_id")
        .filter(pl.col("finished") > pl.col("received_at"))
        .height,
        "interchange below a cent": micros.filter(micros % 1_000_000 != 0).len(),
    }


def _of_rewards(rows: Rows) -> dict[str, int]:
    kinds = dict(rows("reward_events").group_by("kind").len().iter_rows())
    offers = rows("reward_events")["offer_id"].drop_nulls()
    return {
        **{f"reward {name}": kinds.get(name, 0) for name in (
            "ENROL", "ACTIVATE", "REDEEM", "REDEEM_CANCEL", "TRANSFER", "ADJUST",
        )},
        "quarters activated": offers.filter(offers.str.contains("_q[1-4]$")).n_unique(),
        "promotion taken up": offers.str.ends_with("_summer").sum(),
    }  # fmt: skip


def _of_fraud(rows: Rows) -> dict[str, int]:
    labels = rows("fraud_labels")
    frauds = labels.filter(pl.col("label") == "FRAUD")
    kinds = dict(frauds.group_by("fraud_type").len().iter_rows())
    delay = (frauds["known_at"] - frauds["occurred_at"]).dt.total_seconds() / 86_400
    decoys = labels.filter(pl.col("fraud_type") == "FIRST_PARTY")
    strange = rows("customers").filter(pl.col("email_hash").str.ends_with("z"))
    return {
        **{f"fraud {name}": kinds.get(name, 0) for name in ("CNP", "COUNTERFEIT", "ATO",
                                                           "APPLICATION")},
        "first-party decoy": decoys["transaction_id"].n_unique(),
        "known within 3 days": delay.filter(delay <= 3).len(),
        "known within 30 days": delay.filter(delay.is_between(3, 30)).len(),
        "known within 95 days": delay.filter(delay.is_between(30, 96)).len(),
        "stranger's phone and e-mail": strange.height,
    }  # fmt: skip


def test_every_item_of_the_list_is_in_one_world(rows: Rows) -> None:
    counted = _counted(rows)
    assert not [item for item, count in counted.items() if not count]
    assert len(counted) > 100


def test_applications_have_their_seasons_and_a_month_of_other_people(rows: Rows) -> None:
    first = rows("applications").sort("received_at").group_by("application_id").first()
    pulls = rows("bureau_pulls").select("application_id", "score", "file_hit")
    months = (
        first.join(pulls, on="application_id")
        .group_by(month=pl.col("submitted_at").dt.truncate("1mo"))
        .agg(
            pl.len(),
            score=pl.col("score").mean(),
            thin=(pl.col("file_hit") == "THIN").mean(),
            prescreened=(pl.col("channel") == "prescreen").mean(),
        )
        .filter(pl.col("len") >= 20)
        .sort("month")
    )
    drifted = months.sort("prescreened").tail(1)
    others = months.filter(pl.col("month") != drifted["month"][0])
    assert drifted["prescreened"][0] > 2 * others["prescreened"].max()
    assert drifted["score"][0] < others["score"].mean() - 10
    assert drifted["thin"][0] > others["thin"].mean()
