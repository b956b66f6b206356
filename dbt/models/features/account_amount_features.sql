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
        {{ approved_and_declined() }},
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
        {
            'approved': [1, 7, 30, 90],
            'amount': [1, 7, 30, 90],
            'declined': [1, 7, 30],
            'squares': [30, 90],
        },
        wide=['squares'],
        maximum=['largest', 30]
    ) }}
)

select
    entity_id as account_id,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {% for days in [1, 7, 30] %}
    cast(approved_{{ days }}d as bigint) as account_count_{{ days }}d,
    cast(declined_{{ days }}d as bigint) as account_declined_count_{{ days }}d,
    cast(amount_{{ days }}d as bigint) as account_amount_{{ days }}d_minor,
    {% endfor %}
    cast(approved_30d as bigint) as amount_count_30d,
    {{ mean_of_sums('amount_30d', 'approved_30d') }} as amount_mean_30d_minor,
    {{ stddev_of_sums('squares_30d', 'amount_30d', 'approved_30d') }}
        as amount_stddev_30d_minor,
    cast(largest_30d as bigint) as amount_max_30d_minor,
    cast(approved_90d as bigint) as amount_count_90d,
    {{ mean_of_sums('amount_90d', 'approved_90d') }} as amount_mean_90d_minor,
    {{ stddev_of_sums('squares_90d', 'amount_90d', 'approved_90d') }}
        as amount_stddev_90d_minor
from sums
where {{ is_since_touched('changed_at', 'account') }}
