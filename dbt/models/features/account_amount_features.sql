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
        cast(sum(case when is_declined then 0 else 1 end) as bigint) as approved,
        cast(sum(case when is_declined then 1 else 0 end) as bigint) as declined,
        cast(sum(case when is_declined then 0 else amount_minor end) as bigint) as amount,
        sum(case
            when is_declined then 0
            else cast(amount_minor as {{ wide_integer() }}) * amount_minor
        end) as squares,
        max(case when not is_declined then amount_minor end) as largest
    from known
    group by account_id, active_from, known_from, known_to
),

sums as (
    {{ window_sums(
        'contributions',
        {
            'approved': [1, 7, 30, 90],
            'amount': [1, 7, 30, 90],
            'declined': [1, 7, 30],
            'squares': [30, 90],
        },
        'date',
        wide=['squares']
    ) }}
),

maxima as (
    {{ window_maximum('contributions', 'sums', 'largest', 30) }}
)

select
    sums.entity_id as account_id,
    {{ midnight_after('sums.changed_at') }} as event_timestamp,
    {{ midnight_after('sums.changed_at') }} as created_timestamp,
    {% for days in [1, 7, 30] %}
    cast(sums.approved_{{ days }}d as bigint) as account_count_{{ days }}d,
    cast(sums.declined_{{ days }}d as bigint) as account_declined_count_{{ days }}d,
    cast(sums.amount_{{ days }}d as bigint) as account_amount_{{ days }}d_minor,
    {% endfor %}
    cast(sums.approved_30d as bigint) as amount_count_30d,
    {{ mean_of_sums('sums.amount_30d', 'sums.approved_30d') }} as amount_mean_30d_minor,
    {{ stddev_of_sums('sums.squares_30d', 'sums.amount_30d', 'sums.approved_30d') }}
        as amount_stddev_30d_minor,
    cast(maxima.largest_30d as bigint) as amount_max_30d_minor,
    cast(sums.approved_90d as bigint) as amount_count_90d,
    {{ mean_of_sums('sums.amount_90d', 'sums.approved_90d') }} as amount_mean_90d_minor,
    {{ stddev_of_sums('sums.squares_90d', 'sums.amount_90d', 'sums.approved_90d') }}
        as amount_stddev_90d_minor
from sums
inner join maxima
    on sums.entity_id = maxima.entity_id and sums.changed_at = maxima.changed_at
where {{ is_since_touched('sums.changed_at', 'account') }}
{{ in_order_of('event_timestamp') }}
