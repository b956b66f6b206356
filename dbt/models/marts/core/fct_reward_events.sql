{{
    config(
        materialized='incremental',
        unique_key='reward_event_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__reward_events') }}
    {{ where_key_is_new('reward_event_id', [ref('stg_landing__reward_events')]) }}
),

latest as (
    {{ latest_versions('arrived', ['reward_event_id']) }}
)

select
    reward_event_id,
    account_id,
    program_id,
    kind,
    event_at,
    points,
    reference,
    offer_id,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
