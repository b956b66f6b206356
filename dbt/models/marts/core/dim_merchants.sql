{{
    config(
        materialized='incremental',
        unique_key='merchant_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__merchants') }}
    {{ where_key_is_new('merchant_id', [ref('stg_landing__merchants')]) }}
),

states as (
    {{ known_states('arrived', 'merchant_id') }}
)

select
    merchant_id,
    valid_from,
    valid_to,
    is_current,
    version_no,
    updated_at,
    name,
    mcc,
    country,
    city,
    latitude,
    longitude,
    partner_id,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from states
