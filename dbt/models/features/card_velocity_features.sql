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
        cast(sum(case when is_declined then 0 else 1 end) as bigint) as approved,
        cast(sum(case when is_declined then 1 else 0 end) as bigint) as declined,
        cast(sum(case when is_declined then 0 else amount_minor end) as bigint) as amount,
        max(case when not is_declined then amount_minor end) as largest
    from known
    group by card_id, active_from, known_from, known_to
),

sums as (
    {{ window_sums(
        'contributions',
        {'approved': [1, 7, 30], 'amount': [1, 7, 30], 'declined': [1, 7, 30]},
        'date'
    ) }}
),

maxima as (
    {{ window_maximum('contributions', 'sums', 'largest', 30) }}
)

select
    sums.entity_id as card_id,
    {{ midnight_after('sums.changed_at') }} as event_timestamp,
    {{ midnight_after('sums.changed_at') }} as created_timestamp,
    cast(sums.approved_1d as bigint) as authorization_count_1d,
    cast(sums.approved_7d as bigint) as authorization_count_7d,
    cast(sums.approved_30d as bigint) as authorization_count_30d,
    cast(sums.amount_1d as bigint) as authorization_amount_1d_minor,
    cast(sums.amount_7d as bigint) as authorization_amount_7d_minor,
    cast(sums.amount_30d as bigint) as authorization_amount_30d_minor,
    cast(sums.declined_1d as bigint) as declined_count_1d,
    cast(sums.declined_7d as bigint) as declined_count_7d,
    cast(sums.declined_30d as bigint) as declined_count_30d,
    cast(maxima.largest_30d as bigint) as authorization_amount_max_30d_minor
from sums
inner join maxima
    on sums.entity_id = maxima.entity_id and sums.changed_at = maxima.changed_at
where {{ is_since_touched('sums.changed_at', 'card') }}
{{ in_order_of('event_timestamp') }}
