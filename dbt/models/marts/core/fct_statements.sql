{{
    config(
        materialized='incremental',
        unique_key='statement_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__statements') }}
    {{ where_key_is_new('statement_id', [ref('stg_landing__statements')]) }}
),

latest as (
    {{ latest_versions('arrived', ['statement_id']) }}
)

select
    statement_id,
    account_id,
    period_start_on,
    period_end_on,
    opening_balance_minor,
    closing_balance_minor,
    currency,
    due_on,
    credit_limit_minor,
    minimum_due_minor,
    purchases_minor,
    cash_advances_minor,
    balance_transfers_minor,
    fees_minor,
    interest_minor,
    other_debits_minor,
    payments_minor,
    credits_minor,
    days_past_due,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
