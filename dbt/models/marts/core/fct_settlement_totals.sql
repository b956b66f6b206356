{{ config(materialized='view') }}

with arrived as (
    select *
    from {{ ref('stg_landing__settlement_totals') }}
),

latest as (
    {{ latest_versions('arrived', ['total_id']) }}
)

select
    total_id,
    network,
    report_on,
    currency,
    gross_minor,
    interchange_minor,
    charges_minor,
    net_minor,
    is_complete,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
