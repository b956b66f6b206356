{{
    config(
        materialized='incremental',
        unique_key='event_id',
        incremental_strategy='delete+insert',
    )
}}

with events as (
    select *
    from {{ ref('stg_landing__transactions') }}
    {{ where_key_is_new('event_id', [ref('stg_landing__transactions')]) }}
)

{{ versions('events', ['event_id']) }}
