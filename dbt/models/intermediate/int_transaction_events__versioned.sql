{{
    config(
        materialized='incremental',
        unique_key='event_id',
        incremental_strategy='delete+insert',
    )
}}

{% set landed = ref('stg_landing__transactions') %}

{% if is_delta() %}
with events as (
    select *
    from {{ landed }}
    {{ where_key_is_new('event_id', [landed]) }}
)

{{ versions('events', ['event_id']) }}
{% else %}
{{ versions_of_table(landed, 'event_id') }}
{% endif %}
