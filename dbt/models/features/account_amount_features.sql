-- A declined authorization counts as declined only. The standard deviation is that of a sample,
-- null below two amounts; sums and sums of squares are integers, divided once at the end.
{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'account', 'key': 'account_id', 'since': 'event_timestamp'}},
    )
}}

with known as (
    select *
    from {{ ref('int_authorizations__known') }}
    where
        {{ is_touched('account_id', 'account') }}
        and {{ is_since_touched('active_from', 'account', 90) }}
),

contributions as (
    select
        account_id as entity_id,
        active_from,
        known_from,
        known_to,
        {{ volume() }} as volume,
        case
            when is_declined then 0
            else cast(amount_minor as {{ wide_integer() }}) * amount_minor
        end as squares,
        case when not is_declined then amount_minor end as largest
    from known
),

sums as (
    {{ daily_windows(
        'contributions',
        {'volume': [1, 7, 30, 90], 'squares': [30, 90]},
        wide=['volume', 'squares'],
        maximum=['largest', 30]
    ) }}
)

select
    entity_id as account_id,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {% for days in [1, 7, 30] %}
    {{ approved_of('volume_' ~ days ~ 'd') }} as account_count_{{ days }}d,
    {{ declined_of('volume_' ~ days ~ 'd') }} as account_declined_count_{{ days }}d,
    {{ amount_of('volume_' ~ days ~ 'd') }} as account_amount_{{ days }}d_minor,
    {% endfor %}
    {% for days in [30, 90] %}
    {% set count, amount = approved_of('volume_' ~ days ~ 'd'), amount_of('volume_' ~ days ~ 'd') %}
    {{ count }} as amount_count_{{ days }}d,
    {{ mean_of_sums(amount, count) }} as amount_mean_{{ days }}d_minor,
    {{ stddev_of_sums('squares_' ~ days ~ 'd', amount, count) }} as amount_stddev_{{ days }}d_minor,
    {% endfor %}
    largest_30d as amount_max_30d_minor
from sums
where {{ is_since_touched('changed_at', 'account') }}
{{ in_order_of('event_timestamp') }}
