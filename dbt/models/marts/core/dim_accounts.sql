{{
    config(
        materialized='incremental',
        unique_key='account_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__accounts') }}
    {{ where_key_is_new('account_id', [ref('stg_landing__accounts')]) }}
),

states as (
    {{ known_states('arrived', 'account_id') }}
)

select
    account_id,
    valid_from,
    valid_to,
    is_current,
    version_no,
    customer_id,
    program_id,
    opened_on,
    credit_limit_minor,
    currency,
    updated_at,
    status,
    substatus,
    apr_bps,
    cycle_day,
    closed_on,
    close_reason,
    charge_off_on,
    tier,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from states
