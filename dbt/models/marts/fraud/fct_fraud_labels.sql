{{
    config(
        materialized='incremental',
        unique_key='label_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__fraud_labels') }}
    {{ where_key_is_new('label_id', [ref('stg_landing__fraud_labels')]) }}
),

latest as (
    {{ latest_versions('arrived', ['label_id']) }}
)

select
    label_id,
    transaction_id,
    label,
    occurred_at,
    known_at,
    fraud_type,
    source,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
