{{
    config(
        materialized='incremental',
        unique_key='payment_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__payments') }}
    {{ where_key_is_new('payment_id', [ref('stg_landing__payments')]) }}
),

latest as (
    {{ latest_versions('arrived', ['payment_id']) }}
)

select
    payment_id,
    account_id,
    amount_minor,
    currency,
    initiated_at,
    state,
    method,
    settled_at,
    returned_at,
    return_reason,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
