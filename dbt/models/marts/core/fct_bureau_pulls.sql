{{
    config(
        materialized='incremental',
        unique_key='pull_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__bureau_pulls') }}
    {{ where_key_is_new('pull_id', [ref('stg_landing__bureau_pulls')]) }}
),

latest as (
    {{ latest_versions('arrived', ['pull_id']) }}
)

select
    pull_id,
    person_id,
    requested_at,
    application_id,
    account_id,
    bureau,
    pull_type,
    file_hit,
    score_name,
    score,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
