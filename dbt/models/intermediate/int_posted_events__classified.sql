-- Which messages move the posted balance, what kind of transaction each is, and whom it counts for.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'transaction',
                'key': 'transaction_id',
                'since': 'event_at',
                'is_instant': true,
            }
        },
    )
}}

with posted as (
    select *
    from {{ ref('int_transaction_events__versioned') }}
    where
        superseded_at is null
        and event_type in (
            'CLEARING', 'FINANCIAL_AUTHORIZATION', 'FINANCIAL_CREDIT_AUTHORIZATION',
            'RETURN', 'RETURN_REVERSAL', 'CORRECTION_CREDIT', 'CORRECTION_DEBIT'
        )
        -- A declined financial authorization asked for money and got none.
        and auth_result is distinct from 'DECLINED'
        and {{ is_touched('transaction_id', 'transaction') }}
        and {{ is_since_touched('event_at', 'transaction') }}
),

accounts as (
    select * from {{ ref('int_accounts__attributed') }}
),

merchants as (
    select * from {{ ref('int_merchants__attributed') }}
),

attributed as (
    select
        posted.*,
        accounts.program_id,
        accounts.customer_id,
        merchants.partner_id,
        coalesce(posted.mcc, merchants.mcc) as merchant_category_code,
        coalesce(posted.merchant_country, merchants.country) as country_of_merchant,
        coalesce(
            posted.posted_on, {{ business_date('posted.event_at', 'accounts.program_id') }}
        ) as posted_day
    from posted
    left join accounts
        on
            posted.account_id = accounts.account_id
            and posted.event_at >= accounts.effective_from
            and posted.event_at < accounts.effective_to
    left join merchants
        on
            posted.merchant_id = merchants.merchant_id
            and posted.event_at >= merchants.effective_from
            and posted.event_at < merchants.effective_to
),

classified as (
    select
        *,
        case
            when transaction_class is not null then transaction_class
            when event_type in ('CORRECTION_CREDIT', 'CORRECTION_DEBIT') then null
            when event_type in ('RETURN', 'RETURN_REVERSAL', 'FINANCIAL_CREDIT_AUTHORIZATION')
                then 'REFUND'
            when direction = 'CREDIT' then 'REFUND'
            when merchant_category_code in ({{ quoted(var('cash_advance_mccs')) }})
                then 'CASH_ADVANCE'
            when merchant_category_code in ({{ quoted(var('quasi_cash_mccs')) }})
                then 'QUASI_CASH'
            else 'PURCHASE'
        end as own_class
    from attributed
),

corrections as (
    select transaction_id
    from classified
    where own_class is null
),

-- A correction is of the kind of what it corrects: its transaction's first other posted message.
corrected as (
    select
        transaction_id,
        own_class as corrected_class
    from classified
    where
        own_class is not null
        and transaction_id in (select transaction_id from corrections)
    qualify row_number() over (
        partition by transaction_id order by posted_day, event_at, event_id
    ) = 1
)

select
    classified.event_id,
    classified.transaction_id,
    classified.account_id,
    classified.card_id,
    classified.program_id,
    classified.customer_id,
    classified.merchant_id,
    classified.partner_id,
    classified.event_type,
    classified.event_at,
    classified.posted_day as posted_on,
    classified.amount_minor,
    classified.currency,
    classified.direction,
    coalesce(classified.own_class, corrected.corrected_class, 'ADJUSTMENT') as transaction_class,
    classified.merchant_category_code as mcc,
    classified.country_of_merchant as merchant_country,
    classified.posted_on is null as is_posted_on_imputed,
    classified.transaction_class is null as is_transaction_class_imputed,
    classified.mcc is null and classified.merchant_category_code is not null as is_mcc_imputed,
    classified.merchant_country is null and classified.country_of_merchant is not null
        as is_merchant_country_imputed,
    classified.original_transaction_id,
    classified.network_transaction_id,
    classified.received_at,
    classified.first_received_at,
    classified.version_no,
    classified.record_hash,
    classified.file_id,
    classified.batch_date
from classified
left join corrected on classified.transaction_id = corrected.transaction_id
