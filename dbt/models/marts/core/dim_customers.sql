{{
    config(
        materialized='incremental',
        unique_key='customer_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__customers') }}
    {{ where_key_is_new('customer_id', [ref('stg_landing__customers')]) }}
),

states as (
    {{ known_states('arrived', 'customer_id') }}
)

select
    customer_id,
    valid_from,
    valid_to,
    is_current,
    version_no,
    updated_at,
    person_id,
    birth_year,
    state,
    postal_code,
    latitude,
    longitude,
    email_hash,
    phone_hash,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from states
