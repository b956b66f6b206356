-- One row per program, month, component and reference: what the components of the partner's rate
-- cards are reckoned on, one transaction, account or journal entry each. Quantities are in
-- millionths of a unit: a minor unit of the program's currency, an account, or a ledger unit of
-- points. A line of the invoice is the sum of its details; money in another currency is in none,
-- and an exception tells of it (R4 CURRENCY_MISMATCH, R2 CURRENCY).
{{ config(materialized='view') }}

with components as (
    select distinct
        program_id,
        component
    from {{ source('partner_terms', 'partner_rate_cards') }}
),

-- Which fees are annual ones in a month, by the card in force on its last day.
annual_fees as (
    select
        program_id,
        valid_from,
        valid_to,
        fee_amounts
    from {{ source('partner_terms', 'partner_rate_cards') }}
    where component = 'ANNUAL_FEE_SHARE' and tier_from = 0
),

posted as (
    select
        *,
        case when direction = 'DEBIT' then amount_minor else -amount_minor end as signed_minor
    from {{ ref('fct_posted_transactions') }}
    where program_id is not null
),

-- All versions of a program have one currency.
currencies as (
    select distinct
        program_id,
        currency
    from {{ source('rewards_ledger', 'programs') }}
),

billable as (
    select posted.*
    from posted
    inner join currencies
        on posted.program_id = currencies.program_id and posted.currency = currencies.currency
),

accounts as (
    select
        account_id,
        program_id,
        min(opened_on) as opened_on
    from {{ ref('dim_accounts') }}
    group by all
),

details as (
    select
        program_id,
        strftime(posted_on, '%Y-%m') as period,
        'NET_SALES_BPS' as component,
        'TRANSACTION' as reference_kind,
        transaction_id as reference,
        cast(signed_minor as hugeint) * 1000000 as quantity_micros
    from billable
    where transaction_class in ('PURCHASE', 'REFUND')

    union all

    select
        program_id,
        strftime(posted_on, '%Y-%m') as period,
        'INTEREST_SHARE' as component,
        'TRANSACTION' as reference_kind,
        transaction_id as reference,
        cast(signed_minor as hugeint) * 1000000 as quantity_micros
    from billable
    where transaction_class = 'INTEREST'

    union all

    -- Annual fees, less those that were given back.
    select
        billable.program_id,
        strftime(billable.posted_on, '%Y-%m') as period,
        'ANNUAL_FEE_SHARE' as component,
        'TRANSACTION' as reference_kind,
        billable.transaction_id as reference,
        cast(billable.signed_minor as hugeint) * 1000000 as quantity_micros
    from billable
    inner join annual_fees
        on
            billable.program_id = annual_fees.program_id
            and last_day(billable.posted_on) >= annual_fees.valid_from
            and last_day(billable.posted_on) <= coalesce(annual_fees.valid_to, date '9999-12-31')
            and list_contains(annual_fees.fee_amounts, billable.amount_minor)
    where billable.transaction_class = 'FEE'

    union all

    -- What was written off, less what was taken back of it.
    select
        program_id,
        strftime(posted_on, '%Y-%m') as period,
        'LOSS_SHARE' as component,
        'TRANSACTION' as reference_kind,
        transaction_id as reference,
        cast(-signed_minor as hugeint) * 1000000 as quantity_micros
    from billable
    where transaction_class = 'WRITE_OFF'

    union all

    -- An account is active from its first purchase on.
    select
        program_id,
        strftime(min(posted_on), '%Y-%m') as period,
        'ACTIVATION' as component,
        'ACCOUNT' as reference_kind,
        account_id as reference,
        cast(1000000 as hugeint) as quantity_micros
    from posted
    where transaction_class = 'PURCHASE'
    group by program_id, account_id

    union all

    select
        posted.program_id,
        strftime(settled.report_on, '%Y-%m') as period,
        'INTERCHANGE_SHARE_BPS' as component,
        'TRANSACTION' as reference_kind,
        settled.transaction_id as reference,
        cast(
            sum(
                case when settled.direction = 'DEBIT' then 1 else -1 end
                * settled.interchange_micros
            ) as hugeint
        ) as quantity_micros
    from {{ ref('fct_settlement_details') }} as settled
    inner join posted on settled.transaction_id = posted.transaction_id
    inner join currencies
        on posted.program_id = currencies.program_id and settled.currency = currencies.currency
    where settled.interchange_micros is not null
    group by all

    union all

    select
        program_id,
        strftime(opened_on, '%Y-%m') as period,
        'NEW_ACCOUNT' as component,
        'ACCOUNT' as reference_kind,
        account_id as reference,
        cast(1000000 as hugeint) as quantity_micros
    from accounts

    union all

    -- Points sent to the partner, in the month that their entries are posted in.
    select
        journal.program_id,
        journal.accounting_period as period,
        'POINT_PURCHASE' as component,
        'ENTRY' as reference_kind,
        journal.journal_id as reference,
        sum(
            case when postings.direction = 'CREDIT' then 1000000 else -1000000 end
            * cast(postings.amount as hugeint)
        ) as quantity_micros
    from {{ source('rewards_ledger', 'journal') }} as journal
    inner join {{ source('rewards_ledger', 'postings') }} as postings
        on journal.journal_id = postings.journal_id
    where postings.ledger_account = 'PARTNER_TRANSFER_CLEARING'
    group by all
)

select details.*
from details
inner join components
    on details.program_id = components.program_id and details.component = components.component
