-- Amounts of authorizations that were not declined. The standard deviation is that of a sample,
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
        not is_declined
        and {{ is_touched('account_id', 'account') }}
        and {{ is_since_touched('active_from', 'account', 90) }}
),

contributions as (
    select
        account_id as entity_id,
        active_from,
        known_from,
        known_to,
        count(*) as purchases,
        sum(amount_minor) as amount,
        sum(cast(amount_minor as {{ wide_integer() }}) * amount_minor) as squares,
        max(amount_minor) as largest
    from known
    group by account_id, active_from, known_from, known_to
),

sums as (
    {{ window_sums(
        'contributions',
        {'purchases': [30, 90], 'amount': [30, 90], 'squares': [30, 90]},
        'date'
    ) }}
),

maxima as (
    {{ window_maximum('contributions', 'sums', 'largest', 30) }}
)

select
    sums.entity_id as account_id,
    {{ midnight_after('sums.changed_at') }} as event_timestamp,
    {{ midnight_after('sums.changed_at') }} as created_timestamp,
    cast(sums.purchases_30d as bigint) as amount_count_30d,
    {{ mean_of_sums('sums.amount_30d', 'sums.purchases_30d') }} as amount_mean_30d_minor,
    {{ stddev_of_sums('sums.squares_30d', 'sums.amount_30d', 'sums.purchases_30d') }}
        as amount_stddev_30d_minor,
    cast(maxima.largest_30d as bigint) as amount_max_30d_minor,
    cast(sums.purchases_90d as bigint) as amount_count_90d,
    {{ mean_of_sums('sums.amount_90d', 'sums.purchases_90d') }} as amount_mean_90d_minor,
    {{ stddev_of_sums('sums.squares_90d', 'sums.amount_90d', 'sums.purchases_90d') }}
        as amount_stddev_90d_minor
from sums
inner join maxima
    on sums.entity_id = maxima.entity_id and sums.changed_at = maxima.changed_at
where {{ is_since_touched('sums.changed_at', 'account') }}
