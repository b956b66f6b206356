-- A declined authorization counts as declined only; sums and the maximum are of the others.
{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'card', 'key': 'card_id', 'since': 'event_timestamp'}},
    )
}}

with known as (
    select *
    from {{ ref('int_authorizations__known') }}
    where
        {{ is_touched('card_id', 'card') }}
        and {{ is_since_touched('active_from', 'card', 30) }}
),

contributions as (
    select
        card_id as entity_id,
        active_from,
        known_from,
        known_to,
        merchant_id as merchants,
        mcc as mccs,
        merchant_country as countries,
        {{ volume() }} as volume,
        case when not is_declined then amount_minor end as largest
    from known
),

{% set distinct = {'merchants': 'merchant', 'mccs': 'mcc', 'countries': 'country'} %}

changes_of_distinct as (
    {{ distinct_changes('contributions', distinct.keys() | list, 30) }}
),

sums as (
    {{ daily_windows(
        'contributions',
        {'volume': [1, 7, 30]},
        wide=['volume'],
        maximum=['largest', 30],
        distinct=['changes_of_distinct', 30]
    ) }}
)

select
    entity_id as card_id,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {% for days in [1, 7, 30] %}
    {{ approved_of('volume_' ~ days ~ 'd') }} as authorization_count_{{ days }}d,
    {{ amount_of('volume_' ~ days ~ 'd') }} as authorization_amount_{{ days }}d_minor,
    {{ declined_of('volume_' ~ days ~ 'd') }} as declined_count_{{ days }}d,
    {% endfor %}
    {% for name in distinct.values() %}
    {% set position = loop.index0 %}
    {% for days in [1, 30] %}
    {{ unpacked_count('distinct_' ~ days ~ 'd', position) }} as card_{{ name }}_count_{{ days }}d,
    {% endfor %}
    {% endfor %}
    largest_30d as authorization_amount_max_30d_minor
from sums
where {{ is_since_touched('changed_at', 'card') }}
{{ in_order_of('event_timestamp') }}
