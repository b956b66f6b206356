"""The synthetic world: what must hold in every world, seen from its landing files only."""

import hashlib
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.contracts import FEEDS
from pipelines.errors import CardlineError
from pipelines.ingestion.sensitive import find_sensitive
from pipelines.ingestion.validation import judge
from pipelines.sources.world import WorldSummary, generate, generation

ENDS_ON = date(2026, 6, 30)
NOT_MADE = {"credit_outcomes", "partner_acknowledgements"}
POSTED = {
    "CLEARING", "FINANCIAL_AUTHORIZATION", "FINANCIAL_CREDIT_AUTHORIZATION", "RETURN",
    "RETURN_REVERSAL", "CORRECTION_CREDIT", "CORRECTION_DEBIT",
}  # fmt: skip
DEBITS = (
    "purchases", "cash_advances", "balance_transfers", "fees", "interest", "other_debits",
)  # fmt: skip
LINES = (*DEBITS, "payments", "credits")
LINE_OF_CLASS = {
    "PURCHASE": "purchases",
    "CASH_ADVANCE": "cash_advances",
    "QUASI_CASH": "cash_advances",
    "BALANCE_TRANSFER": "balance_transfers",
    "FEE": "fees",
    "INTEREST": "interest",
}


class World:
    """A generated world and its feeds by name, read as they lie."""

    def __init__(self, home: Path, accounts: int, days: int, seed: int = 11) -> None:
        self.landing = home / "landing"
        self.summary: WorldSummary = generate(self.landing, accounts, days, seed, ENDS_ON)
        self._feeds: dict[str, pl.DataFrame] = {}

    def __getitem__(self, feed: str) -> pl.DataFrame:
        if feed not in self._feeds:
            files = sorted((self.landing / feed).glob("*/*.parquet"))
            parts = [
                pl.read_parquet(file).with_columns(
                    batch_date=pl.lit(date.fromisoformat(file.parent.name))
                )
                for file in files
            ]
            self._feeds[feed] = pl.concat(parts, how="diagonal")
        return self._feeds[feed]

    def latest(self, feed: str) -> pl.DataFrame:
        """The last known version of each key."""
        key = list(FEEDS[feed].key)
        return self[feed].sort("received_at").group_by(key, maintain_order=True).last()

    @property
    def feeds(self) -> list[str]:
        return sorted(path.name for path in self.landing.iterdir())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), accounts=90, days=430)


def _posted(world: World) -> pl.DataFrame:
    rows = world.latest("transactions").filter(pl.col("event_type").is_in(list(POSTED)))
    by_class = pl.col("transaction_class").replace_strict(LINE_OF_CLASS, default="other_debits")
    is_debit = pl.col("direction") == "DEBIT"
    return rows.select(
        "account_id",
        "posted_on",
        "amount_minor",
        line=pl.when(is_debit).then(by_class).otherwise(pl.lit("credits")),
    )


def _paid(world: World) -> pl.DataFrame:
    payments = world.latest("payments")
    columns = ("account_id", "posted_on", "amount_minor", "line")
    settled = payments.filter(pl.col("settled_at").is_not_null()).with_columns(
        posted_on=pl.col("settled_at").dt.date(), line=pl.lit("payments")
    )
    returned = payments.filter(pl.col("returned_at").is_not_null()).with_columns(
        posted_on=pl.col("returned_at").dt.date(), line=pl.lit("other_debits")
    )
    return pl.concat([settled.select(columns), returned.select(columns)])


def test_every_feed_but_those_that_cannot_be_known_has_rows(world: World) -> None:
    assert set(world.feeds) == set(FEEDS) - NOT_MADE
    assert all(count > 0 for count in world.summary.rows.values())
    assert set(world.summary.rows) == set(world.feeds)


def test_every_row_keeps_its_contract(world: World) -> None:
    for feed in world.feeds:
        reasons = judge(FEEDS[feed], world[feed].drop("batch_date")).reason.drop_nulls()
        assert reasons.is_empty(), (feed, reasons.unique().to_list())


def test_no_text_looks_like_a_card_number_or_a_social_security_number(world: World) -> None:
    for feed in world.feeds:
        for series in world[feed].select(pl.col(pl.String)):
            assert find_sensitive(series) is None, (feed, series.name)
            # A payment history is a run of digits by its nature: one for each month.
            if series.name != "payment_history":
                assert not series.str.contains(r"[0-9]{13}").any(), (feed, series.name)


def test_rows_are_known_no_later_than_the_day_of_their_file(world: World) -> None:
    for feed in world.feeds:
        late = pl.col("received_at").dt.date() > pl.col("batch_date")
        assert world[feed]["received_at"].null_count() == 0, feed
        assert world[feed].filter(late).is_empty(), feed
        assert world[feed]["batch_date"].max() <= ENDS_ON, feed
        assert world[feed]["batch_date"].min() >= ENDS_ON - timedelta(days=429), feed


def test_nothing_is_known_before_it_happened(world: World) -> None:
    happened = {
        "transactions": "event_at", "applications": "submitted_at", "customers": "updated_at",
        "accounts": "updated_at", "cards": "updated_at", "payments": "initiated_at",
        "fraud_labels": "known_at", "disputes": "event_at", "reward_events": "event_at",
        "bureau_pulls": "requested_at",
    }  # fmt: skip
    for feed, column in happened.items():
        early = world[feed].filter(pl.col("received_at") < pl.col(column))
        assert early.is_empty(), feed


def test_applications_and_bureau_answers_are_known_by_the_decision(world: World) -> None:
    applications = world.latest("applications")
    assert applications.filter(pl.col("received_at") > pl.col("decision_at")).is_empty()
    pulls = applications.join(world["bureau_pulls"], on="pull_id", suffix="_pull")
    assert pulls.height == applications.height
    assert pulls.filter(pl.col("received_at_pull") > pl.col("decision_at")).is_empty()
    decisions = set(world["applications"]["decision"].unique())
    assert decisions >= {"APPROVED", "DECLINED", "COUNTER_OFFER", "WITHDRAWN", "PENDING"}
    assert 1.3 < applications.height / world.summary.accounts < 2.3


def test_statement_balances_to_the_cent(world: World) -> None:
    change = sum(pl.col(f"{line}_minor") for line in DEBITS) - pl.sum_horizontal(
        "payments_minor", "credits_minor"
    )
    broken = world["statements"].filter(
        pl.col("closing_balance_minor") != pl.col("opening_balance_minor") + change
    )
    assert broken.is_empty()


def test_statements_of_an_account_follow_each_other(world: World) -> None:
    ordered = world["statements"].sort("account_id", "period_start_on")
    before = ordered.select(
        pl.col("closing_balance_minor", "period_end_on").shift(1).over("account_id")
    )
    both = ordered.with_columns(
        carried=before["closing_balance_minor"], last_day=before["period_end_on"]
    ).drop_nulls("carried")
    assert both.filter(pl.col("carried") != pl.col("opening_balance_minor")).is_empty()
    assert both.filter(pl.col("period_start_on") <= pl.col("last_day")).is_empty()


def test_statement_lines_add_up_what_was_posted_and_paid(world: World) -> None:
    periods = world["statements"].select(
        "statement_id", "account_id", "period_start_on", "period_end_on"
    )
    rows = pl.concat([_posted(world), _paid(world)])
    inside = rows.join(periods, on="account_id").filter(
        pl.col("posted_on").is_between("period_start_on", "period_end_on")
    )
    found = inside.group_by("statement_id", "line").agg(pl.col("amount_minor").sum())
    told = world["statements"].unpivot(
        [f"{line}_minor" for line in LINES], index="statement_id", variable_name="line"
    )
    told = told.with_columns(pl.col("line").str.strip_suffix("_minor"))
    both = told.join(found, on=["statement_id", "line"], how="full", coalesce=True).fill_null(0)
    assert both.filter(pl.col("value") != pl.col("amount_minor")).is_empty()
    # Whatever was posted before an account's last statement is on one of its statements.
    last = periods.group_by("account_id").agg(pl.col("period_end_on").max())
    due = rows.join(last, on="account_id").filter(pl.col("posted_on") <= pl.col("period_end_on"))
    assert due.height == inside.height


def test_a_statement_arrives_after_all_that_it_sums(world: World) -> None:
    posted = world["transactions"].filter(pl.col("event_type").is_in(list(POSTED)))
    late = posted.join(world["statements"], on="account_id", suffix="_statement").filter(
        pl.col("posted_on").is_between("period_start_on", "period_end_on"),
        pl.col("received_at") > pl.col("received_at_statement"),
    )
    assert late.is_empty()


def test_days_past_due_count_from_the_oldest_unpaid_minimum(world: World) -> None:
    ordered = (
        world["statements"]
        .sort("account_id", "period_end_on")
        .with_columns(
            before=pl.col("days_past_due").shift(1).over("account_id"),
            length=(pl.col("period_end_on") - pl.col("period_start_on")).dt.total_days() + 1,
        )
    )
    grew = ordered.filter(pl.col("days_past_due") > pl.col("before"), pl.col("before") > 0)
    assert grew.filter(pl.col("days_past_due") > pl.col("before") + pl.col("length")).is_empty()
    fresh = ordered.filter(pl.col("days_past_due") > 0, pl.col("before") == 0)
    assert fresh["days_past_due"].max() < 30
    charged_off = world.latest("accounts").filter(pl.col("charge_off_on").is_not_null())
    worst = world["statements"].group_by("account_id").agg(pl.col("days_past_due").max())
    assert charged_off.join(worst, on="account_id")["days_past_due"].min() >= 180


@pytest.mark.parametrize(
    ("feed", "column", "parent"),
    [
        ("transactions", "account_id", "accounts"),
        ("transactions", "card_id", "cards"),
        ("transactions", "merchant_id", "merchants"),
        ("statements", "account_id", "accounts"),
        ("payments", "account_id", "accounts"),
        ("cards", "account_id", "accounts"),
        ("accounts", "customer_id", "customers"),
        ("reward_events", "account_id", "applications"),
        ("fraud_labels", "transaction_id", "transactions"),
        ("disputes", "transaction_id", "transactions"),
        ("bureau_tradelines", "pull_id", "bureau_pulls"),
        ("bureau_trended", "pull_id", "bureau_tradelines"),
        ("bureau_inquiries", "pull_id", "bureau_pulls"),
        ("bureau_records", "pull_id", "bureau_pulls"),
        ("bureau_attributes", "pull_id", "bureau_pulls"),
        ("settlement_details", "event_id", "transactions"),
    ],
)
def test_references_lead_somewhere(world: World, feed: str, column: str, parent: str) -> None:
    referring = world[feed].filter(pl.col(column).is_not_null())
    assert referring.join(world[parent], on=column, how="anti").is_empty()


def test_accounts_and_cards_are_known_before_they_are_used(world: World) -> None:
    for feed, key in (("accounts", "account_id"), ("cards", "card_id")):
        known = world[feed].group_by(key).agg(known=pl.col("received_at").min())
        used = world["transactions"].group_by(key).agg(used=pl.col("received_at").min())
        assert used.join(known, on=key).filter(pl.col("used") < pl.col("known")).is_empty()


def test_event_ids_are_unique_and_posted_events_have_a_day(world: World) -> None:
    events = world["transactions"]
    assert events["event_id"].n_unique() == events.height
    posted = pl.col("event_type").is_in(list(POSTED))
    assert events.filter(posted != pl.col("posted_on").is_not_null()).is_empty()


def test_clearings_differ_from_authorizations_where_they_should(world: World) -> None:
    events = world["transactions"]
    authorized = events.filter(pl.col("event_type") == "AUTHORIZATION").select(
        "transaction_id", asked="amount_minor", result="auth_result"
    )
    cleared = (
        events.filter(pl.col("event_type") == "CLEARING")
        .group_by("transaction_id", "mcc")
        .agg(pl.col("amount_minor").sum(), pl.len())
    )
    both = cleared.join(authorized, on="transaction_id", how="left")
    assert both.filter(pl.col("result") == "DECLINED").is_empty()
    assert (both["len"] > 1).any()
    assert both["asked"].null_count() > 0  # force posts
    tips = both.filter(pl.col("mcc") == "5812", pl.col("amount_minor") > pl.col("asked"))
    assert tips.height > 0
    kinds = set(events["event_type"].unique())
    assert kinds >= {"AUTHORIZATION_EXPIRY", "AUTHORIZATION_REVERSAL", "RETURN"}


def test_refunds_are_linked_in_every_way_and_few_exceed_the_purchase(world: World) -> None:
    events = world["transactions"]
    refunds = events.filter(pl.col("event_type") == "RETURN")
    by_original = refunds.filter(pl.col("original_transaction_id").is_not_null())
    by_network = refunds.filter(pl.col("network_transaction_id").is_not_null())
    neither = refunds.filter(
        pl.col("original_transaction_id").is_null(), pl.col("network_transaction_id").is_null()
    )
    assert min(by_original.height, by_network.height, neither.height) > 0
    cleared = events.filter(pl.col("event_type") == "CLEARING")
    bought = cleared.group_by("transaction_id").agg(bought=pl.col("amount_minor").sum())
    given_back = by_original.group_by(transaction_id="original_transaction_id").agg(
        back=pl.col("amount_minor").sum(), first=pl.col("event_at").min()
    )
    both = given_back.join(bought, on="transaction_id", how="left")
    assert both["bought"].null_count() == 0
    over = both.filter(pl.col("back") > pl.col("bought"))
    assert over.height < 0.06 * both.height
    assert over.filter(pl.col("back") - pl.col("bought") > 2_000).is_empty()
    assert by_network.join(cleared, on="network_transaction_id", how="anti").is_empty()


def test_settlement_totals_are_the_sums_of_their_details(world: World) -> None:
    sign = pl.when(pl.col("direction") == "DEBIT").then(1).otherwise(-1)
    is_charge = pl.col("type") == "FEE"
    summed = (
        world["settlement_details"]
        .group_by("network", "report_on")
        .agg(
            gross=(pl.col("amount_minor") * sign).filter(~is_charge).sum(),
            charges=pl.col("amount_minor").filter(is_charge).sum(),
            micros=(pl.col("interchange_micros").fill_null(0) * sign).sum(),
        )
    )
    net = pl.col("gross_minor") - pl.col("interchange_minor") - pl.col("charges_minor")
    assert world["settlement_totals"].filter(pl.col("net_minor") != net).is_empty()
    both = world.latest("settlement_totals").join(
        summed, on=["network", "report_on"], how="full", coalesce=True
    )
    interchange = (pl.col("micros") + 500_000) // 1_000_000
    agrees = (
        (pl.col("gross") == pl.col("gross_minor"))
        & (pl.col("charges") == pl.col("charges_minor"))
        & (interchange == pl.col("interchange_minor"))
        & (
            pl.col("net_minor")
            == pl.col("gross_minor") - pl.col("interchange_minor") - pl.col("charges_minor")
        )
    )
    assert both.filter(~agrees.fill_null(False)).is_empty()


def test_disputes_account_for_their_whole_amount_at_every_event(world: World) -> None:
    closed = world["disputes"].filter(pl.col("event_type") == "CLOSED")
    parts = pl.sum_horizontal("denied_minor", "recovered_minor", "written_off_minor")
    assert closed.height > 0
    assert closed.filter(parts != pl.col("amount_minor")).is_empty()
    assert world["disputes"].filter(parts > pl.col("amount_minor")).is_empty()
    # TXN-3: what is settled of a dispute only ever grows, so that what remains is never negative.
    for part in ("denied_minor", "recovered_minor", "written_off_minor"):
        in_time = world["disputes"].sort("dispute_id", "event_at")
        fell = in_time.filter(pl.col(part) < pl.col(part).shift(1).over("dispute_id"))
        assert fell.is_empty(), part


def test_payment_histories_are_metro2_shaped(world: World) -> None:
    lines = world["bureau_tradelines"]
    assert (lines["payment_history"].str.len_chars() == 24).all()
    assert lines["payment_history"].str.contains("^[0-6LB]{24}$").all()
    # No history can only lie before the opening: at the old end.
    assert not lines["payment_history"].str.contains("B[0-6L]").any()
    # The history begins with the month before that of the status: one step worse at most.
    before = lines["payment_history"].str.slice(0, 1)
    for code, statuses in {
        "0": {"11", "13", "71"}, "1": {"11", "13", "71", "78"}, "L": {"97"}
    }.items():  # fmt: skip
        assert set(lines.filter(before == code)["account_status"]) == statuses
    pulls = world["bureau_pulls"].select("pull_id", asked="requested_at")
    dated = lines.join(pulls, on="pull_id")
    assert dated.filter(pl.col("opened_on") > pl.col("asked").dt.date()).is_empty()


def test_fraud_labels_come_late_and_some_never(world: World) -> None:
    truth = pl.read_parquet(world.summary.truth / "fraud-*.parquet")
    labels = world["fraud_labels"].filter(pl.col("label") == "FRAUD")
    assert labels.join(truth, on="transaction_id", how="anti").is_empty()
    assert truth.join(labels, on="transaction_id", how="anti").height > 0
    delay = (labels["known_at"] - labels["occurred_at"]).dt.total_seconds()
    assert delay.min() > 0
    assert delay.max() < 100 * 86_400
    assert set(truth["scenario"].unique()) >= {"CNP_BURST", "TERMINAL_COMPROMISE"}
    assert 0.003 < world.summary.fraud_rate < 0.02


def test_nothing_of_the_truth_lands(world: World) -> None:
    truth = {
        "latent_risk", "scenario", "is_ever_known", "hardship_from_cycle", "incident",
        "application_ring", "bust_out_on", "taken_over_at",
    }  # fmt: skip
    for feed in world.feeds:
        assert not truth & set(world[feed].columns), feed


def _digests(landing: Path) -> dict[str, str]:
    return {
        path.relative_to(landing).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(landing.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "CHUNK", 2)
    first = World(tmp_path / "first", 6, 100)
    again = World(tmp_path / "again", 6, 100)
    other = World(tmp_path / "other", 6, 100, seed=12)
    assert _digests(first.landing) == _digests(again.landing)
    assert _digests(first.landing) != _digests(other.landing)


def _own_rows(world: World, feed: str) -> pl.DataFrame:
    """Rows that do not sum up over accounts, in one order, with all declared columns."""
    columns = [*dict.fromkeys([*FEEDS[feed].column_names, "received_at", "batch_date"])]
    frame = world[feed]
    if feed == "settlement_details":
        frame = frame.filter(pl.col("type") != "FEE")
    return frame.select(column for column in columns if column in frame.columns)


def test_more_accounts_and_other_chunks_change_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = World(tmp_path / "few", 25, 200)
    monkeypatch.setattr(generation, "CHUNK", 13)
    more = World(tmp_path / "more", 40, 200)
    for feed in few.feeds:
        if feed == "settlement_totals":
            continue
        small, large = _own_rows(few, feed), _own_rows(more, feed)
        large = large.select(small.columns)
        missing = small.join(large, on=small.columns, how="anti", nulls_equal=True)
        assert missing.is_empty(), feed
        assert large.height >= small.height
    assert few["merchants"].equals(more["merchants"])


def test_risk_shows_in_what_the_bureau_says_and_in_how_accounts_behave() -> None:
    window = generation.Window.ending(ENDS_ON, 480)
    merchants = generation.build_merchants(5, window, (None, None, None))
    story = generation.tell(5, 0, 1_600, merchants, window)
    mature, is_bad = generation.mature_bad_rate(story.serviced, story.holders, window)
    assert mature > 400
    assert 0.04 < is_bad.mean() < 0.13
    year = np.flatnonzero(story.holders.opened_on + 365 <= window.last)
    booked = story.applications.filter("is_booked").sort("account")
    seen = booked["hit"].to_numpy()[year] <= 1
    score = booked["score"].to_numpy()[year]
    assert roc_auc_score(is_bad[seen], -score[seen]) > 0.68
    early = story.serviced.statements.filter(pl.col("cycle") == 4)
    usage = np.zeros(story.holders.count)
    usage[early["holder"].to_numpy()] = (early["closing"] / early["limit"]).to_numpy()
    assert roc_auc_score(is_bad, usage[year]) > 0.6


@pytest.mark.parametrize(("accounts", "days"), [(1, 28), (3, 28), (1, 45)])
def test_a_small_world_holds_together(tmp_path: Path, accounts: int, days: int) -> None:
    for seed in range(4):
        small = World(tmp_path / str(seed), accounts, days, seed)
        assert small.summary.accounts == accounts
        assert {"applications", "bureau_pulls", "merchants"} <= set(small.feeds)
        for feed in small.feeds:
            reasons = judge(FEEDS[feed], small[feed].drop("batch_date")).reason.drop_nulls()
            assert reasons.is_empty(), (feed, reasons.unique().to_list())


@pytest.mark.parametrize(("accounts", "days"), [(0, 400), (10, 10), (10, 27)])
def test_a_world_without_content_is_refused(tmp_path: Path, accounts: int, days: int) -> None:
    with pytest.raises(CardlineError, match="at least 1 account and 28 days"):
        generate(tmp_path / "landing", accounts, days, 1)
