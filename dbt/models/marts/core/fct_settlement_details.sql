{{
    config(
        materialized='incremental',
        unique_key='detail_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__settlement_details') }}
    {{ where_key_is_new('detail_id', [ref('stg_landing__settlement_details')]) }}
),

latest as (
    {{ latest_versions('arrived', ['detail_id']) }}
)

select
    detail_id,
    network,
    report_on,
    type,
    amount_minor,
    currency,
    direction,
    transaction_id,
    event_id,
    interchange_micros,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
