{{ config(materialized='view') }}

with arrived as (
    select *
    from {{ ref('stg_landing__disputes') }}
),

latest as (
    {{ latest_versions('arrived', ['dispute_event_id']) }}
)

select
    dispute_event_id,
    dispute_id,
    transaction_id,
    event_type,
    event_at,
    amount_minor,
    reason,
    network_reason_code,
    disposition,
    denied_minor,
    recovered_minor,
    written_off_minor,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
