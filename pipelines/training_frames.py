"""What models learn from and score: rows of the warehouse with features as known at the time.

Every frame here obeys known time: features through `pipelines.features.retrieval.historical` at
the moment of the decision, outcomes only where they were known by the warehouse's own clock.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import polars as pl

from pipelines.features.retrieval import feature_names, historical
from pipelines.settings import get_settings

UNDERWRITING_SERVICE = "underwriting_v1"
BEHAVIOUR_SERVICE = "account_behaviour_v1"
FRAUD_SERVICE = "fraud_authorization_v1"
STATED = ("stated_income_minor",)
"""Request values of an application that are features in their own right."""


@dataclass(frozen=True)
class Outcomes:
    """Matured outcomes at one grain, `application_id` or `account_id`.

    `frame` has the key, `person`, `decision_at` (the moment features are as of), keys and request
    values of the service, `is_bad` and `source` (how a row came to its outcome, as
    `models.underwriting.rejects` has it); `population` counts everything that was looked at.
    """

    grain: str
    service: str
    frame: pl.DataFrame
    population: dict[str, int]


def underwriting_outcomes(con: duckdb.DuckDBPyConnection, known_by: datetime) -> Outcomes:
    """Outcomes of applications; of accounts where a source ships outcomes without applications."""
    applications = _application_outcomes(con, known_by)
    if applications.frame.height:
        return applications
    accounts = _account_outcomes(con, known_by)
    return accounts if accounts.frame.height else applications


def _application_outcomes(con: duckdb.DuckDBPyConnection, known_by: datetime) -> Outcomes:
    spine = con.execute(
        """
        select application_id, customer_id, pull_id, decision_at, stated_income_minor,
            housing_payment_minor, requested_limit_minor,
            coalesce(person_id, customer_id, application_id) as person, exclusion,
            case when outcome_known_at <= ? then outcome end as outcome,
            case
                when decision = 'DECLINED' then 'DECLINED'
                when decision_source = 'test_cell' then 'TEST_CELL'
                else 'ACCEPTED'
            end as source
        from risk.underwriting_spine
        order by application_id
        """,
        [known_by],
    ).pl()
    return Outcomes("application_id", UNDERWRITING_SERVICE, _matured(spine), _population(spine))


def _account_outcomes(con: duckdb.DuckDBPyConnection, known_by: datetime) -> Outcomes:
    """Shipped outcomes of accounts, observed from the month before the one of the outcome.

    A ready-made outcome does not say over which period it was observed. Taking the account as it
    was known when the outcome's month began keeps that month out of the features.
    """
    spine = con.execute(
        """
        select outcomes.account_id,
            coalesce(accounts.customer_id, outcomes.account_id) as person,
            date_trunc('month', outcomes.observed_on)::timestamp as decision_at,
            null::varchar as exclusion,
            case when outcomes.is_bad then 'BAD' else 'GOOD' end as outcome,
            'ACCEPTED' as source
        from marts.fct_credit_outcomes as outcomes
        left join marts.dim_accounts as accounts
            on outcomes.account_id = accounts.account_id and accounts.is_current
        where outcomes.account_id is not null
            and greatest(outcomes.known_at, outcomes.received_at) <= ?
        qualify row_number() over (
            partition by outcomes.account_id
            order by outcomes.known_at desc, outcomes.received_at desc, outcomes.outcome_id
        ) = 1
        order by outcomes.account_id
        """,
        [known_by],
    ).pl()
    return Outcomes("account_id", BEHAVIOUR_SERVICE, _matured(spine), _population(spine))


def _matured(spine: pl.DataFrame) -> pl.DataFrame:
    """Known outcomes of accounts; of the declined what the reject inference of the settings asks
    for: outcomes at other lenders, or all of them, of which most have none."""
    method = get_settings().reject_inference
    is_known = pl.col("outcome").is_in(["GOOD", "BAD"])
    is_declined = pl.col("source") == "DECLINED"
    asked_of_declined = {"bureau": is_known, "none": pl.lit(False)}.get(method, pl.lit(True))
    is_asked = pl.when(is_declined).then(asked_of_declined).otherwise(is_known)
    return (
        spine.filter(pl.col("exclusion").is_null() & is_asked)
        .with_columns(pl.when(is_known).then(pl.col("outcome") == "BAD").cast(pl.Int64)
                      .alias("is_bad"))
        .drop("exclusion", "outcome")
    )  # fmt: skip


def _population(spine: pl.DataFrame) -> dict[str, int]:
    declined = pl.when(pl.col("outcome").is_null()).then(pl.lit("DECLINED")).otherwise(
        pl.lit("DECLINED_WITH_OUTCOME_ELSEWHERE")
    )  # fmt: skip
    state = pl.coalesce(
        pl.lit("EXCLUDED_") + pl.col("exclusion"),
        pl.when(pl.col("source") == "DECLINED").then(declined),
        pl.col("outcome"),
        pl.lit("NO_OUTCOME_YET"),
    )
    counted = spine.group_by(state.alias("state")).len().sort("state")
    return {state: count for state, count in counted.rows()}


def underwriting_features(service: str) -> list[str]:
    """Features that an underwriting model on `service` may look at, in a fixed order.

    Vendor attributes come besides, as they arrive: see `models.underwriting.attributes`.
    """
    from models.underwriting.attributes import COLUMN

    stated = list(STATED) if service == UNDERWRITING_SERVICE else []
    return [*(name for name in feature_names(service) if name != COLUMN), *stated]


def fraud_features() -> list[str]:
    """Features that the fraud model may look at, in a fixed order."""
    return [*feature_names(FRAUD_SERVICE), "amount_minor"]


def with_features(service: str, frame: pl.DataFrame, as_of: str) -> pl.DataFrame:
    """`frame` with the features of `service` as known at the column `as_of`, in row order."""
    return historical(service, frame.with_columns(pl.col(as_of).alias("event_timestamp")))


_TRANSACTIONS = """
    select transaction_id, card_id, account_id, merchant_id, amount_minor, is_declined, event_at,
        extract(hour from event_at)::bigint as event_hour,
        extract(isodow from event_at)::bigint as event_weekday,
        mcc, merchant_country, device_id, ip_hash, entry_mode, is_card_present, latitude, longitude
    from intermediate.int_authorizations__known
    where known_until is null
        and active_from between ?::date and ?::date
        and event_at >= ? and event_at < ?
    order by event_at, transaction_id
"""


def _transactions(con: duckdb.DuckDBPyConnection, start: datetime, end: datetime) -> pl.DataFrame:
    """Purchase-like transactions of `[start, end)` with keys and request values, in time order.

    `known_at` is what the online store was as of at each: its last materialisation before, or the
    moment before where every message is pushed.
    """
    minutes = get_settings().online_refresh_minutes
    before = pl.col("event_at") - pl.duration(microseconds=1)
    return (
        con.execute(_TRANSACTIONS, [start, end, start, end])
        .pl()
        .with_columns((before.dt.truncate(f"{minutes}m") if minutes else before).alias("known_at"))
    )


def _frauds(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Transactions ever held to be third-party fraud: since when, until when if withdrawn, and
    since when again.

    Judgements have days as their grain of known time: one made on a day counts from the midnight
    that ends it.
    """
    return con.execute(
        """
        with judged as (
            select *, min(known_from) filter (where is_fraud)
                over (partition by transaction_id) as first_from
            from intermediate.int_fraud_labels__known
        ),
        told as (
            select transaction_id, first_from,
                min(known_from) filter (where not is_fraud and known_from > first_from) as until,
                max(known_from) filter (where is_fraud and known_to is null) as last_from
            from judged
            where first_from is not null
            group by transaction_id, first_from
        )
        select transaction_id,
            (first_from + interval 1 day)::timestamp as fraud_known_at,
            (until + interval 1 day)::timestamp as fraud_withdrawn_at,
            (case when last_from > until then last_from end + interval 1 day)::timestamp
                as fraud_again_at
        from told
        """
    ).pl()


def _compromised_cards(con: duckdb.DuckDBPyConnection, frauds: pl.DataFrame) -> pl.DataFrame:
    """Per card of any of `frauds`, however old, when the first was known: card_id and
    card_compromised_at."""
    con.register("known_frauds", frauds)
    found = con.execute(
        """
        select purchases.card_id, min(known_frauds.fraud_known_at) as card_compromised_at
        from intermediate.int_authorizations__known as purchases
        inner join known_frauds on purchases.transaction_id = known_frauds.transaction_id
        where purchases.known_to is null and purchases.card_id is not null
        group by purchases.card_id
        """
    ).pl()
    con.unregister("known_frauds")
    return found


def labelled_transactions(
    con: duckdb.DuckDBPyConnection,
    start: datetime,
    end: datetime,
    *,
    sampled_until: datetime,
    maximum_negatives: int,
) -> pl.DataFrame:
    """Approved purchase-like transactions of `[start, end)` with what is known of their fraud.

    Before `sampled_until` only `maximum_negatives` transactions without a report are kept, chosen
    by a hash of their id; `weight` undoes the sampling. Later ones are complete.
    """
    frauds = _frauds(con)
    joined = (
        _transactions(con, start, end)
        .filter(~pl.col("is_declined"))
        .join(frauds, on="transaction_id", how="left", maintain_order="left")
        .join(_compromised_cards(con, frauds), on="card_id", how="left", maintain_order="left")
        .with_columns(pl.lit(1.0).alias("weight"))
    )
    may_be_sampled = (pl.col("event_at") < sampled_until) & pl.col("fraud_known_at").is_null()
    negatives = joined.filter(may_be_sampled)
    if negatives.height <= maximum_negatives:
        return joined
    draws = [
        hashlib.blake2b(i.encode(), digest_size=8).digest() for i in negatives["transaction_id"]
    ]
    drawn = (
        negatives.with_columns(pl.Series("draw", draws))
        .sort("draw", "transaction_id")
        .head(maximum_negatives)
        .drop("draw")
        .with_columns(pl.lit(negatives.height / maximum_negatives).alias("weight"))
    )
    return pl.concat([joined.filter(~may_be_sampled), drawn]).sort("event_at", "transaction_id")


def unscored_transactions(
    con: duckdb.DuckDBPyConnection, model_version: str, start: datetime, end: datetime
) -> pl.DataFrame:
    """Purchase-like transactions of `[start, end)` that this version has not scored yet."""
    scored = con.execute(
        "select transaction_id from fraud.scores "
        "where model_version = ? and event_at >= ? and event_at < ?",
        [model_version, start, end],
    ).pl()
    return _transactions(con, start, end).join(
        scored, on="transaction_id", how="anti", maintain_order="left"
    )


def transaction_span(con: duckdb.DuckDBPyConnection) -> tuple[datetime, datetime] | None:
    """First and last day of transactions as midnights; none where there are none."""
    row = con.execute(
        "select min(active_from)::timestamp, max(active_from)::timestamp "
        "from intermediate.int_authorizations__known where known_to is null"
    ).fetchone()
    return None if row is None or row[0] is None else (row[0], row[1])


def known_fraud_count(
    con: duckdb.DuckDBPyConnection, start: datetime, end: datetime, known_by: datetime
) -> int:
    """Approved transactions of `[start, end)` held to be fraud at `known_by`."""
    from models.fraud.training import known_fraud

    frauds = _frauds(con)
    held = frauds.filter(pl.Series(known_fraud(frauds, known_by) == 1))
    con.register("held_frauds", held)
    row = con.execute(
        """
        select count(*)
        from intermediate.int_authorizations__known as authorizations
        where authorizations.known_to is null and not authorizations.is_declined
            and authorizations.active_from >= ?::date and authorizations.active_from < ?::date
            and authorizations.transaction_id in (select transaction_id from held_frauds)
        """,
        [start, end],
    ).fetchone()
    con.unregister("held_frauds")
    return int(row[0]) if row else 0


def day_of(moment: datetime) -> datetime:
    """The midnight that begins the moment's day."""
    return datetime.combine(moment.date(), datetime.min.time())


def next_day(moment: datetime) -> datetime:
    """The midnight that ends the moment's day."""
    return day_of(moment) + timedelta(days=1)
