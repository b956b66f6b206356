"""What each reconciliation compares, as SQL over the warehouse.

A `Reconciliation` has four queries. `days` names the business days that are touched by the files
in `new_files(file_id)`. Those days and the ones that are broken are `scope(business_on)`, and
`pairs` puts left and right of them side by side. Over the relation `pairs`, `sides` gives counts
and sums of both sides by day, and `breaks` one row per pair that does not agree (business_on,
type, severity, amount_minor, currency, left_ref, right_ref, detail). References are ids that can
be looked up, never what they stand for.
"""

from dataclasses import dataclass

from pipelines.findings import SEQUENCE_STEPS


@dataclass(frozen=True)
class Reconciliation:
    """One link of the chain; `reads` are the tables without which it is left out."""

    recon_id: str
    title: str
    types: tuple[str, ...]
    reads: tuple[str, ...]
    days: str
    pairs: str
    sides: str
    breaks: str


R0 = Reconciliation(
    recon_id="R0",
    title="Files delivered and the rows that the lake holds of them",
    types=("COUNT", "TOTAL", "SCHEMA", "CONTENT", "QUARANTINED", "ROWS_REFUSED", "SEQ_GAP"),
    reads=("landing.files",),
    # A gap is seen when the file after it has come, and told under the day before it.
    days=f"""
select distinct batch_date from landing.files where file_id in (table new_files)
union
select date_before from ({SEQUENCE_STEPS}) where sequence_no > number_before + 1
""",  # noqa: S608
    # A file that was delivered again under another name counts once: its state is DUPLICATE. A
    # delivery that was mended at the same path settles what was wrong with it before.
    pairs=f"""
with standing as (
    select * from landing.files as files
    where
        files.batch_date in (select business_on from scope)
        and files.state <> 'DUPLICATE'
        and not ((files.state = 'QUARANTINED' or files.rows_quarantined > 0) and exists (
            select * from landing.files as mended
            where
                mended.path = files.path and mended.state = 'LOADED'
                and mended.load_no > files.load_no
        ))
),
gaps as (
    from ({SEQUENCE_STEPS})
    where sequence_no > number_before + 1 and date_before in (select business_on from scope)
)
select
    files.batch_date as business_on, files.feed || '/' || files.file_id as reference,
    files.state, files.reason,
    case when files.state = 'LOADED' then files.rows + coalesce(files.rows_quarantined, 0) else 0
    end as told_rows,
    case when files.state = 'LOADED' then coalesce(files.rows_quarantined, 0) else 0
    end as refused_rows,
    case when files.state = 'LOADED' then coalesce(found.row_count, 0) else 0 end as found_rows
from standing as files
left join rows_by_file as found on files.file_id = found.file_id and files.feed = found.feed
union all
select
    gaps.date_before, gaps.feed || '/' || gaps.stream || '/' || missing.number, 'MISSING',
    'number ' || missing.number || ' of ' || gaps.stream || ' was never delivered', 0, 0, 0
from gaps, range(gaps.number_before + 1, gaps.sequence_no) as missing (number)
""",  # noqa: S608
    sides="""
select
    business_on,
    count(*) as left_count,
    sum(told_rows) as left_sum,
    count(*) filter (where state = 'LOADED') as right_count,
    sum(found_rows) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on,
    case
        when state = 'MISSING' then 'SEQ_GAP'
        when state = 'LOADED' then 'COUNT'
        when reason like 'the manifest says % rows%' then 'COUNT'
        when reason like 'control total%' then 'TOTAL'
        when reason like 'required column missing%' then 'SCHEMA'
        when reason like '%sha256 differs' then 'CONTENT'
        else 'QUARANTINED'
    end as type,
    'HIGH' as severity,
    null as amount_minor,
    null as currency,
    reference as left_ref,
    null as right_ref,
    case
        when state = 'LOADED'
            then 'the inventory says ' || (told_rows - refused_rows) || ' rows, the lake holds '
            || found_rows
        else reason
    end as detail
from pairs
where state <> 'LOADED' or told_rows <> found_rows + refused_rows
union all
select
    business_on, 'ROWS_REFUSED', 'MEDIUM', null, null, reference, null,
    refused_rows || ' of ' || told_rows || ' rows wait in quarantine'
from pairs
where refused_rows > 0
""",
)

R1 = Reconciliation(
    recon_id="R1",
    title="Network totals and the settlement details under them",
    types=(
        "AMOUNT",
        "IDENTITY",
        "INTERCHANGE",
        "INCOMPLETE_FEED",
        "MISSING_DETAIL",
        "MISSING_TOTAL",
    ),
    reads=("marts.fct_settlement_totals", "marts.fct_settlement_details"),
    days="""
select report_on from raw.settlement_totals where file_id in (table new_files)
union
select report_on from raw.settlement_details where file_id in (table new_files)
""",
    pairs="""
with told as (
    select
        report_on as business_on, network, currency,
        count(*) as totals,
        sum(gross_minor) as gross_minor,
        sum(interchange_minor) as interchange_minor,
        bool_and(coalesce(is_complete, true)) as is_complete,
        sum(abs(net_minor - (gross_minor - interchange_minor - charges_minor)))
            as identity_difference
    from marts.fct_settlement_totals
    where report_on in (select business_on from scope)
    group by all
),
found as (
    select
        report_on as business_on, network, currency,
        count(*) as details,
        sum(case when direction = 'DEBIT' then amount_minor else -amount_minor end)
            as gross_minor,
        sum(
            case when direction = 'DEBIT' then 1 else -1 end * coalesce(interchange_micros, 0)
        ) as interchange_micros
    from marts.fct_settlement_details
    where report_on in (select business_on from scope) and type <> 'FEE'
    group by all
)
select
    coalesce(told.business_on, found.business_on) as business_on,
    coalesce(told.currency, found.currency) as currency,
    coalesce(told.network, found.network) || '/' || coalesce(told.business_on, found.business_on)
        || '/' || coalesce(told.currency, found.currency) as reference,
    coalesce(told.totals, 0) as totals,
    coalesce(found.details, 0) as details,
    coalesce(told.gross_minor, 0) as told_gross_minor,
    coalesce(found.gross_minor, 0) as found_gross_minor,
    coalesce(told.interchange_minor, 0) as told_interchange_minor,
    coalesce(found.interchange_micros, 0) as found_interchange_micros,
    coalesce(told.identity_difference, 0) as identity_difference,
    coalesce(told.is_complete, true) as is_complete
from told
full join found
    on
        told.business_on = found.business_on and told.network = found.network
        and told.currency = found.currency
""",
    sides="""
select
    business_on,
    count(*) filter (where totals > 0) as left_count,
    sum(told_gross_minor) as left_sum,
    count(*) filter (where details > 0) as right_count,
    sum(found_gross_minor) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on, 'IDENTITY' as type, 'HIGH' as severity, identity_difference as amount_minor,
    currency, reference as left_ref, null as right_ref,
    'net is not gross less interchange less charges' as detail
from pairs
where identity_difference <> 0
union all
select
    business_on, case when details = 0 then 'MISSING_DETAIL' else 'AMOUNT' end, 'HIGH',
    abs(told_gross_minor - found_gross_minor), currency, reference, null,
    'gross of the totals ' || told_gross_minor || ', of the details ' || found_gross_minor
from pairs
where totals > 0 and is_complete and told_gross_minor <> found_gross_minor
union all
-- Details carry interchange in millionths: their sum may differ by the rounding of the total.
select
    business_on, 'INTERCHANGE', 'MEDIUM',
    abs(told_interchange_minor * 1000000 - found_interchange_micros) // 1000000, currency,
    reference, null,
    'interchange of the totals ' || told_interchange_minor || ', of the details '
    || found_interchange_micros || ' millionths'
from pairs
where
    totals > 0 and is_complete
    and abs(told_interchange_minor * 1000000 - found_interchange_micros) >= 1000000
union all
select
    business_on, 'INCOMPLETE_FEED', 'MEDIUM', abs(told_gross_minor - found_gross_minor), currency,
    reference, null, 'the network says that the report is not complete'
from pairs
where not is_complete
union all
select
    business_on, 'MISSING_TOTAL', 'HIGH', abs(found_gross_minor), currency, null, reference,
    'details without a total'
from pairs
where totals = 0
""",
)

_CLEARED = """
('CLEARING', 'FINANCIAL_AUTHORIZATION', 'FINANCIAL_CREDIT_AUTHORIZATION', 'RETURN',
'RETURN_REVERSAL')
"""
"""Messages that a network settles; corrections are the issuer's own."""

R2 = Reconciliation(
    recon_id="R2",
    title="Settlement details and the transaction events that they settle",
    types=("UNMATCHED_SETTLEMENT", "UNMATCHED_CLEARING", "AMOUNT", "CURRENCY", "DUP_CLEARING"),
    reads=(
        "marts.fct_settlement_details",
        "marts.fct_settlement_totals",
        "marts.fct_transaction_events",
        "marts.fct_posted_events",
    ),
    # Days of new details, of new messages, and those for which the reports are now late enough.
    days=f"""
select report_on from raw.settlement_details where file_id in (table new_files)
union
select coalesce(posted_on, cast(event_at as date)) from raw.transactions
where file_id in (table new_files) and event_type in {_CLEARED}
union
select cast(unnest(range(min(report_on) - 7, max(report_on) - 2, interval 1 day)) as date)
from raw.settlement_totals where file_id in (table new_files) group by file_id
""",  # noqa: S608
    # Three passes. A detail names its message; or what is left of details and messages of one
    # transaction comes to equal sums; or one message alone of the transaction's account and
    # merchant has its amount within three days, and no other detail could be meant. A detail that
    # names neither message nor transaction is held by R1 alone.
    pairs=f"""
with near as (
    select distinct business_on + cast(unnest(range(-3, 4)) as integer) as day from scope
),
details as (
    select
        told.*,
        case when told.direction = 'DEBIT' then told.amount_minor else -told.amount_minor end
            as signed_minor,
        events.event_id as named_event_id, events.amount_minor as named_minor,
        events.currency as named_currency, events.direction as named_direction
    from marts.fct_settlement_details as told
    left join marts.fct_transaction_events as events on told.event_id = events.event_id
    where
        told.report_on in (select day from near)
        and told.type in ('CLEARING', 'FINANCIAL')
        and coalesce(told.event_id, told.transaction_id) is not null
),
open_details as (select * from details where named_event_id is null),
free as (
    select
        *,
        case when direction = 'DEBIT' then amount_minor else -amount_minor end as signed_minor
    from marts.fct_posted_events as posted
    where
        posted_on in (select day from near) and event_type in {_CLEARED}
        and not exists (
            select 1 from marts.fct_settlement_details as named
            where named.event_id = posted.event_id
        )
),
by_transaction as (
    select transaction_id, currency
    from (
        select transaction_id, currency, signed_minor as difference, 1 as details, 0 as events
        from open_details
        union all
        select transaction_id, currency, -signed_minor, 0, 1 from free
    )
    where transaction_id is not null
    group by transaction_id, currency
    having sum(difference) = 0 and sum(details) > 0 and sum(events) > 0
),
left_over as (
    select open_details.*, known.account_id, known.merchant_id
    from open_details
    anti join by_transaction using (transaction_id, currency)
    inner join (
        select transaction_id, min(account_id) as account_id, min(merchant_id) as merchant_id
        from marts.fct_transaction_events
        where transaction_id in (select transaction_id from open_details)
        group by transaction_id
    ) as known using (transaction_id)
),
by_merchant as (
    select left_over.detail_id, candidates.event_id
    from left_over
    inner join (from free anti join by_transaction using (transaction_id, currency)) as candidates
        on
            left_over.account_id = candidates.account_id
            and left_over.merchant_id = candidates.merchant_id
            and left_over.amount_minor = candidates.amount_minor
            and left_over.currency = candidates.currency
            and left_over.direction = candidates.direction
            and abs(date_diff('day', left_over.report_on, candidates.posted_on)) <= 3
    qualify
        count(*) over (partition by left_over.detail_id) = 1
        and count(*) over (partition by candidates.event_id) = 1
),
-- A message is late where the reports of its day and of three days after it are complete, and
-- others of its program have settled.
due as (
    select report_on as day
    from marts.fct_settlement_totals
    where report_on in (select business_on from scope)
    group by report_on
    having
        bool_and(coalesce(is_complete, true))
        and report_on + 3 <= (
            select max(report_on) from marts.fct_settlement_totals
            where coalesce(is_complete, true)
        )
),
settling as (
    select distinct program_id from marts.fct_posted_events
    where event_id in (select named_event_id from details)
)
select
    details.report_on as business_on, details.detail_id, details.event_id, details.amount_minor,
    details.currency, details.direction,
    coalesce(details.named_event_id, by_merchant.event_id, by_transaction.transaction_id)
        as found_event_id,
    case when details.named_event_id is null then details.amount_minor else details.named_minor
    end as found_minor,
    coalesce(details.named_currency, details.currency) as found_currency,
    coalesce(details.named_direction, details.direction) as found_direction
from details
left join by_transaction
    on
        details.named_event_id is null
        and details.transaction_id = by_transaction.transaction_id
        and details.currency = by_transaction.currency
left join by_merchant on details.detail_id = by_merchant.detail_id
where details.report_on in (select business_on from scope)
union all
select
    posted_on, null, event_id, amount_minor, currency, direction, event_id, amount_minor, currency,
    direction
from free
anti join by_transaction using (transaction_id, currency)
anti join by_merchant using (event_id)
where
    posted_on in (select day from due) and posted_on in (select business_on from scope)
    and program_id in (select program_id from settling)
""",  # noqa: S608
    sides="""
select
    business_on,
    count(detail_id) as left_count,
    coalesce(sum(amount_minor) filter (where detail_id is not null), 0) as left_sum,
    count(found_event_id) as right_count,
    coalesce(sum(found_minor) filter (where found_event_id is not null), 0) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on,
    case
        when found_event_id is null then 'UNMATCHED_SETTLEMENT'
        when currency <> found_currency then 'CURRENCY'
        else 'AMOUNT'
    end as type,
    'HIGH' as severity,
    case
        when found_event_id is null then amount_minor else abs(amount_minor - found_minor)
    end as amount_minor,
    currency,
    detail_id as left_ref,
    event_id as right_ref,
    'settled ' || amount_minor || ' ' || currency || ' ' || direction || ', event '
    || case
        when found_event_id is null then 'unknown'
        else found_minor || ' ' || found_currency || ' ' || found_direction
    end as detail
from pairs
where
    detail_id is not null
    and (
        found_event_id is null or currency <> found_currency or amount_minor <> found_minor
        or direction <> found_direction
    )
union all
select
    business_on, 'UNMATCHED_CLEARING', 'MEDIUM', amount_minor, currency, null, event_id,
    'posted ' || amount_minor || ' ' || currency || ' ' || direction || ', settled by no report'
from pairs
where detail_id is null
union all
select
    business_on, 'DUP_CLEARING', 'HIGH', max(amount_minor), max(currency), min(detail_id),
    event_id, 'settled ' || count(*) || ' times on one day'
from pairs
where event_id is not null
group by business_on, event_id
having count(*) > 1
""",
)

_TOTALS = ("purchases", "cash_advances", "balance_transfers", "fees", "interest", "credits")
"""What statements total of the transactions that posted, as int_statements__compared has it."""


def _beyond(more: str, less: str) -> str:
    """By how much totals named by `more` are above those named by `less`, each for itself."""
    return " + ".join(f"greatest({more} - {less}, 0)".format(total) for total in _TOTALS)


R3 = Reconciliation(
    recon_id="R3",
    title="Posted transactions, statement movements and statement balances",
    types=("IDENTITY", "CONTINUITY", "MISSING_POST", "WRONG_PERIOD"),
    reads=("marts.fct_statements", "intermediate.int_statements__compared"),
    days="""
with arrived as (
    select account_id, period_end_on from raw.statements where file_id in (table new_files)
)
select period_end_on from arrived
union
-- A corrected statement may no longer lead on to the one after it.
select following.period_end_on
from marts.fct_statements as following
inner join arrived
    on
        following.account_id = arrived.account_id
        and following.period_start_on = arrived.period_end_on + interval 1 day
union
-- What posts late belongs to a statement that may have come long ago.
select statements.period_end_on
from marts.fct_statements as statements
inner join (
    select distinct account_id, coalesce(posted_on, cast(event_at as date)) as posted_on
    from raw.transactions where file_id in (table new_files)
) as posted
    on
        statements.account_id = posted.account_id
        and posted.posted_on between statements.period_start_on and statements.period_end_on
""",
    # Sources that state balances only, without what moved them, have nothing to compare.
    pairs=f"""
select
    statements.period_end_on as business_on, statements.statement_id, statements.currency,
    statements.opening_balance_minor, statements.closing_balance_minor,
    statements.opening_balance_minor
    + coalesce(statements.purchases_minor, 0) + coalesce(statements.cash_advances_minor, 0)
    + coalesce(statements.balance_transfers_minor, 0) + coalesce(statements.fees_minor, 0)
    + coalesce(statements.interest_minor, 0) + coalesce(statements.other_debits_minor, 0)
    - coalesce(statements.payments_minor, 0) - coalesce(statements.credits_minor, 0)
        as computed_minor,
    before.statement_id as before_id,
    before.closing_balance_minor as before_closing_minor,
    {_beyond("compared.{0}_minor", "compared.posted_{0}_minor")} as unposted_minor,
    {_beyond("compared.posted_{0}_minor", "compared.{0}_minor")} as unstated_minor
from marts.fct_statements as statements
left join intermediate.int_statements__compared as compared
    on
        statements.statement_id = compared.statement_id
        and compared.posted_event_count > 0
left join marts.fct_statements as before
    on
        statements.account_id = before.account_id
        and before.period_end_on = statements.period_start_on - interval 1 day
where
    statements.period_end_on in (select business_on from scope)
    and coalesce(
        statements.purchases_minor, statements.cash_advances_minor,
        statements.balance_transfers_minor, statements.fees_minor, statements.interest_minor,
        statements.other_debits_minor, statements.payments_minor, statements.credits_minor
    ) is not null
""",  # noqa: S608
    sides="""
select
    business_on,
    count(*) as left_count,
    sum(computed_minor) as left_sum,
    count(*) as right_count,
    sum(closing_balance_minor) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on, 'IDENTITY' as type, 'HIGH' as severity,
    abs(closing_balance_minor - computed_minor) as amount_minor, currency,
    statement_id as left_ref, null as right_ref,
    'opening and movements give ' || computed_minor || ', the statement says '
    || closing_balance_minor as detail
from pairs
where closing_balance_minor <> computed_minor
union all
select
    business_on, 'CONTINUITY', 'HIGH', abs(opening_balance_minor - before_closing_minor),
    currency, statement_id, before_id,
    'opens with ' || opening_balance_minor || ', the one before closed with '
    || before_closing_minor
from pairs
where opening_balance_minor <> before_closing_minor
union all
select
    business_on,
    case when unposted_minor > 0 then 'MISSING_POST' else 'WRONG_PERIOD' end,
    'HIGH', unposted_minor + unstated_minor, currency, statement_id, null,
    'of what the statement says ' || unposted_minor || ' has not posted in its period, and '
    || unstated_minor || ' posted that it does not say'
from pairs
where unposted_minor + unstated_minor <> 0
""",
)

R4 = Reconciliation(
    recon_id="R4",
    title="Posted events and reward decisions",
    types=("MISSING_DECISION", "DOUBLE_DECISION", "WRONG_RULE_VERSION"),
    reads=(
        "marts.fct_earning_events",
        "rewards.decisions",
        "rewards.progress",
        "rewards.programs",
        "rewards.bonus_progress",
    ),
    days="""
select distinct posted_on from marts.fct_earning_events where file_id in (table new_files)
""",
    # Only what the rewards engine has worked: what it has not been given yet is not late, and an
    # account that waits for its program's terms has an exception of its own.
    pairs="""
with due as (
    select event_id, posted_on, amount_minor, currency
    from marts.fct_earning_events
    where
        posted_on in (select business_on from scope)
        and program_id in (select program_id from rewards.programs)
        and account_id not in (select account_id from rewards.waiting_accounts)
        and cast(received_at as date) <= (select max(through) from rewards.progress)
        and file_id in (
            select file_id from landing.files
            where load_no <= (
                select max(load_no) from ops.watermarks
                where name = 'rewards:marts.fct_earning_events'
            )
        )
),
decided as (
    select event_id, max(decisions) as most_decisions
    from (
        select event_id, rule_id, count(*) as decisions
        from rewards.decisions
        where event_id in (select event_id from due)
        group by event_id, rule_id
    ) as by_rule
    group by event_id
),
-- Terms are those of the day that counts, or older: a refund goes by its purchase's, a bonus by
-- those of the day on which its account was opened. Terms of later or of another text are wrong.
misjudged as (
    select distinct decisions.event_id
    from rewards.decisions as decisions
    left join rewards.programs as terms
        on
            decisions.program_id = terms.program_id
            and decisions.rule_version = terms.version
            and decisions.rule_hash = terms.rule_hash
    left join rewards.bonus_progress as bonuses
        on
            decisions.program_id = bonuses.program_id
            and decisions.account_id = bonuses.account_id
            and decisions.rule_id = bonuses.bonus_id
    where
        decisions.event_id in (select event_id from due)
        and decisions.rule_version is not null
        and (
            terms.version is null
            or terms.valid_from > decisions.basis_on
            or (
                terms.valid_to < decisions.basis_on
                and decisions.refunds_transaction_id is null
                and bonuses.bonus_id is null
            )
        )
)
select
    due.posted_on as business_on, due.event_id, due.amount_minor, due.currency,
    coalesce(decided.most_decisions, 0) as most_decisions,
    misjudged.event_id is not null as is_misjudged
from due
left join decided on due.event_id = decided.event_id
left join misjudged on due.event_id = misjudged.event_id
""",
    sides="""
select
    business_on,
    count(*) as left_count,
    sum(amount_minor) as left_sum,
    count(*) filter (where most_decisions > 0) as right_count,
    coalesce(sum(amount_minor) filter (where most_decisions > 0), 0) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on,
    case when most_decisions = 0 then 'MISSING_DECISION' else 'DOUBLE_DECISION' end as type,
    'HIGH' as severity, amount_minor, currency, event_id as left_ref, null as right_ref,
    case
        when most_decisions = 0 then 'posted event without a reward decision'
        else 'a rule has decided more than once on the posted event'
    end as detail
from pairs
where most_decisions <> 1
union all
select
    business_on, 'WRONG_RULE_VERSION', 'HIGH', amount_minor, currency, event_id, null,
    'decided under terms that were not in force on its day, or that were never published so'
from pairs
where is_misjudged
""",
)

R5 = Reconciliation(
    recon_id="R5",
    title="Rewards ledger and its lots and balances",
    types=("LOT_DRIFT", "BALANCE", "NEGATIVE_LOT", "UNBALANCED_ENTRY"),
    reads=("rewards.journal", "rewards.postings", "rewards.lots", "rewards.balances"),
    # A stock and no flow: compared as it stands, under the last batch date.
    days="""
select max(batch_date) from landing.files
where
    state = 'LOADED' and exists (select * from new_files)
    and exists (select * from rewards.journal)
""",
    pairs="""
with ledger as (
    select
        journal.program_id, postings.account_id,
        sum(case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end)
            as points
    from rewards.postings as postings
    inner join rewards.journal as journal on postings.journal_id = journal.journal_id
    where postings.ledger_account in ('MEMBER_PENDING', 'MEMBER_AVAILABLE')
    group by all
),
lots as (
    select program_id, account_id, sum(points_open) as points
    from rewards.lots
    group by all
),
members as (
    select
        coalesce(ledger.program_id, lots.program_id) as program_id,
        coalesce(ledger.account_id, lots.account_id) as account_id,
        coalesce(ledger.points, 0) as ledger_points,
        coalesce(lots.points, 0) as lot_points
    from ledger
    full join lots
        on ledger.program_id = lots.program_id and ledger.account_id = lots.account_id
)
select
    scope.business_on,
    members.program_id || '/' || members.account_id as reference,
    members.ledger_points,
    members.lot_points - coalesce(balances.deficit, 0) as lot_points,
    coalesce(balances.pending + balances.available - balances.deficit, 0) as balance_points
from members
left join rewards.balances as balances
    on
        members.program_id = balances.program_id
        and members.account_id = balances.account_id
inner join (select max(business_on) as business_on from scope) as scope
    on scope.business_on is not null
""",
    sides="""
select
    business_on,
    count(*) filter (where ledger_points <> 0) as left_count,
    sum(ledger_points) as left_sum,
    count(*) filter (where lot_points <> 0) as right_count,
    sum(lot_points) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on, 'LOT_DRIFT' as type, 'HIGH' as severity,
    abs(ledger_points - lot_points) as amount_minor, null as currency,
    reference as left_ref, null as right_ref,
    'ledger ' || ledger_points || ', open lots less deficit ' || lot_points as detail
from pairs
where ledger_points <> lot_points
union all
select
    business_on, 'BALANCE', 'HIGH', abs(ledger_points - balance_points), null, reference, null,
    'ledger ' || ledger_points || ', balance ' || balance_points
from pairs
where ledger_points <> balance_points
union all
select
    (select max(business_on) from scope), 'NEGATIVE_LOT', 'HIGH', abs(points_open), null, lot_id,
    null, 'a lot of ' || points_issued || ' holds ' || points_open
from rewards.lots
where points_open < 0 or points_open > points_issued
union all
select
    (select max(business_on) from scope), 'UNBALANCED_ENTRY', 'HIGH', abs(difference), null,
    journal_id || '/' || asset, null, 'debits and credits differ'
from (
    select
        journal_id, asset,
        sum(case when direction = 'DEBIT' then amount else -amount end) as difference
    from rewards.postings
    group by journal_id, asset
) as entries
where difference <> 0
""",
)

R6 = Reconciliation(
    recon_id="R6",
    title="Rewards liability and the general ledger entries",
    types=("ACCOUNT_MAP", "MISSING_JE"),
    reads=("finance.liability_rollforward", "finance.gl_entries"),
    days="""
select distinct last_day(cast(period || '-01' as date)) from finance.liability_rollforward
where exists (select * from new_files)
""",
    pairs="""
select
    last_day(cast(rollforward.period || '-01' as date)) as business_on,
    rollforward.program_id || '/' || rollforward.period as reference,
    rollforward.currency,
    rollforward.closing_minor,
    count(entries.entry_id) as entries,
    coalesce(sum(entries.credit_minor - entries.debit_minor), 0) as booked_minor
from finance.liability_rollforward as rollforward
left join finance.gl_entries as entries
    on
        rollforward.program_id = entries.program_id and entries.period <= rollforward.period
        and entries.account_code in ('2100', '1220')
where last_day(cast(rollforward.period || '-01' as date)) in (select business_on from scope)
group by all
""",
    sides="""
select
    business_on,
    count(*) as left_count,
    sum(closing_minor) as left_sum,
    count(*) as right_count,
    sum(booked_minor) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on,
    case when entries = 0 then 'MISSING_JE' else 'ACCOUNT_MAP' end as type,
    'HIGH' as severity,
    abs(closing_minor - booked_minor) as amount_minor, currency, reference as left_ref,
    null as right_ref, 'roll-forward ' || closing_minor || ', booked ' || booked_minor as detail
from pairs
where closing_minor <> booked_minor
""",
)

R7 = Reconciliation(
    recon_id="R7",
    title="Points transferred and the partner's acknowledgement",
    types=("PARTNER_REJECT", "RATE", "QUANTITY", "LATE"),
    reads=("marts.fct_partner_acknowledgements", "finance.liability_rollforward"),
    days="""
select distinct last_day(cast(period || '-01' as date)) from raw.partner_acknowledgements
where file_id in (table new_files)
union
-- A partner that acknowledges at all owes it for every month, in so many days after its end.
select last_day(cast(period || '-01' as date)) from finance.liability_rollforward
where
    transferred_points <> 0 and exists (select * from new_files)
    and program_id in (select program_id from marts.fct_partner_acknowledgements)
    and last_day(cast(period || '-01' as date)) + to_days(getvariable('acknowledgement_days'))
    < (select max(batch_date) from landing.files)
""",
    # The disputed price of a rejection is told by its reason: the feed has no price. A rejection is
    # settled by what is accepted after it.
    pairs="""
with told as (
    select
        program_id, period,
        sum(points) filter (where status <> 'REJECTED') as points,
        coalesce(
            max(received_at) filter (where status = 'REJECTED')
            >= coalesce(
                max(received_at) filter (where status <> 'REJECTED'), timestamp '-infinity'
            ), false
        ) as is_rejected,
        bool_or(status = 'REJECTED') as was_rejected,
        bool_or(status = 'REJECTED' and upper(reason) like 'RATE%') as is_about_rate,
        min(acknowledgement_id) as acknowledgement_id
    from marts.fct_partner_acknowledgements
    where last_day(cast(period || '-01' as date)) in (select business_on from scope)
    group by all
),
transferred as (
    select program_id, period, transferred_points
    from finance.liability_rollforward
    where
        last_day(cast(period || '-01' as date)) in (select business_on from scope)
        and transferred_points <> 0
        and program_id in (select program_id from marts.fct_partner_acknowledgements)
)
select
    last_day(cast(coalesce(told.period, transferred.period) || '-01' as date)) as business_on,
    coalesce(told.program_id, transferred.program_id) || '/'
    || coalesce(told.period, transferred.period) as reference,
    told.acknowledgement_id,
    coalesce(told.is_rejected, false) as is_rejected,
    coalesce(told.was_rejected, false) as was_rejected,
    coalesce(told.is_about_rate, false) as is_about_rate,
    told.period is null as is_late,
    coalesce(told.points, 0) as acknowledged_points,
    coalesce(transferred.transferred_points, 0) as transferred_points
from told
full join transferred
    on told.program_id = transferred.program_id and told.period = transferred.period
where
    told.period is not null
    or last_day(cast(transferred.period || '-01' as date))
    + to_days(getvariable('acknowledgement_days')) < (select max(batch_date) from landing.files)
""",
    sides="""
select
    business_on,
    count(*) as left_count,
    sum(transferred_points) as left_sum,
    count(*) filter (where not is_late) as right_count,
    sum(acknowledged_points) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on,
    case
        when is_about_rate then 'RATE'
        when was_rejected then 'PARTNER_REJECT'
        when is_late then 'LATE'
        else 'QUANTITY'
    end as type,
    case when is_late then 'MEDIUM' else 'HIGH' end as severity,
    abs(transferred_points - acknowledged_points) as amount_minor,
    null as currency,
    reference as left_ref,
    acknowledgement_id as right_ref,
    'transferred ' || transferred_points || ', acknowledged ' || acknowledged_points as detail
from pairs
where is_rejected or transferred_points <> acknowledged_points
""",
)

R8 = Reconciliation(
    recon_id="R8",
    title="What the settlement clearing account (1010) owes and what was paid",
    types=("STUCK",),
    reads=(
        "finance.settlement_entries",
        "marts.fct_settlement_totals",
        "marts.fct_settlement_details",
    ),
    days="""
select report_on from raw.settlement_totals where file_id in (table new_files)
union
select report_on from raw.settlement_details where file_id in (table new_files)
""",
    # A report that is not complete is not cash yet; a day whose total R1 does not find, or finds
    # to differ, has its exception there.
    pairs="""
with clearing as (
    select
        report_on as business_on, network, currency,
        sum(credit_minor - debit_minor) filter (where source <> 'NET') as owed_minor,
        coalesce(sum(debit_minor - credit_minor) filter (where source = 'NET'), 0) as paid_minor
    from finance.settlement_entries
    where account_code = '1010' and report_on in (select business_on from scope)
    group by all
),
told as (
    select
        report_on as business_on, network, currency,
        bool_and(coalesce(is_complete, true)) as is_complete,
        sum(gross_minor) as gross_minor,
        sum(interchange_minor) as interchange_minor,
        sum(net_minor - (gross_minor - interchange_minor - charges_minor)) as identity_difference
    from marts.fct_settlement_totals
    where report_on in (select business_on from scope)
    group by all
),
found as (
    select
        report_on as business_on, network, currency,
        sum(case when direction = 'DEBIT' then amount_minor else -amount_minor end)
            as gross_minor,
        sum(
            case when direction = 'DEBIT' then 1 else -1 end * coalesce(interchange_micros, 0)
        ) as interchange_micros
    from marts.fct_settlement_details
    where report_on in (select business_on from scope) and type <> 'FEE'
    group by all
)
select
    clearing.business_on, clearing.currency, clearing.owed_minor, clearing.paid_minor,
    clearing.network || '/' || clearing.business_on || '/' || clearing.currency as reference,
    coalesce(told.is_complete, false) as has_settled,
    told.identity_difference <> 0
    or told.gross_minor <> coalesce(found.gross_minor, 0)
    or abs(told.interchange_minor * 1000000 - coalesce(found.interchange_micros, 0)) >= 1000000
        as is_told_by_r1
from clearing
left join told
    on
        clearing.business_on = told.business_on and clearing.network = told.network
        and clearing.currency = told.currency
left join found
    on
        clearing.business_on = found.business_on and clearing.network = found.network
        and clearing.currency = found.currency
""",
    sides="""
select
    business_on,
    count(*) as left_count,
    sum(owed_minor) as left_sum,
    count(*) filter (where has_settled) as right_count,
    sum(paid_minor) as right_sum
from pairs
group by business_on
""",
    breaks="""
select
    business_on, 'STUCK' as type, 'HIGH' as severity, abs(owed_minor - paid_minor) as amount_minor,
    currency, reference as left_ref, null as right_ref,
    'the clearing account owes ' || owed_minor || ', paid was ' || paid_minor as detail
from pairs
where has_settled and not is_told_by_r1 and owed_minor <> paid_minor
""",
)

CHAIN = (R0, R1, R2, R3, R4, R5, R6, R7, R8)
"""The chain in the order of the field's numbering."""
