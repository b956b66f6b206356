-- A row that a new version of its key replaces has a row of the same content, and so of the same
-- event_at, among the new ones.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_key',
        meta={'replaces': {'key': 'event_id', 'since': 'event_at'}},
    )
}}

{% set landed = ref('stg_landing__transactions') %}

{% if is_delta() %}
-- Only a narrow look goes back through all of the history, and tells how far the wide one has to.
with known as (
    select
        event_id,
        min(event_at) as event_at
    from {{ landed }}
    {{ where_key_is_new('event_id', [landed]) }}
    group by event_id
),

events as (
    select *
    from {{ landed }}
    where
        event_id in (select event_id from known)
        and event_at >= (select min(event_at) from known)
)

{{ versions('events', ['event_id']) }}
{% else %}
{{ versions_of_table(landed, 'event_id') }}
{% endif %}
