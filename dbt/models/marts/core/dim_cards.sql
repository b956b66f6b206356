{{ config(materialized='incremental', unique_key='card_id', incremental_strategy='delete+insert') }}

with arrived as (
    select *
    from {{ ref('stg_landing__cards') }}
    {{ where_key_is_new('card_id', [ref('stg_landing__cards')]) }}
),

states as (
    {{ known_states('arrived', 'card_id') }}
)

select
    card_id,
    valid_from,
    valid_to,
    is_current,
    version_no,
    account_id,
    updated_at,
    state,
    issued_at,
    activated_at,
    replaced_by,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from states
