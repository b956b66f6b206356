{{ config(materialized='view') }}

with arrived as (
    select *
    from {{ ref('stg_landing__credit_outcomes') }}
),

latest as (
    {{ latest_versions('arrived', ['outcome_id']) }}
)

select
    outcome_id,
    application_id,
    account_id,
    is_bad,
    observed_on,
    known_at,
    definition,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
