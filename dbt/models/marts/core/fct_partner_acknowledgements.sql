{{ config(materialized='view') }}

with arrived as (
    select *
    from {{ ref('stg_landing__partner_acknowledgements') }}
),

latest as (
    {{ latest_versions('arrived', ['acknowledgement_id']) }}
)

select
    acknowledgement_id,
    program_id,
    partner_id,
    period,
    points,
    status,
    reason,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
