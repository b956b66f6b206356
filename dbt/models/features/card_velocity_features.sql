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
        {{ approved_and_declined() }},
        case when not is_declined then amount_minor end as largest
    from known
),

sums as (
    {{ daily_windows(
        'contributions',
        {'approved': [1, 7, 30], 'amount': [1, 7, 30], 'declined': [1, 7, 30]},
        maximum=['largest', 30]
    ) }}
)

select
    entity_id as card_id,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    cast(approved_1d as bigint) as authorization_count_1d,
    cast(approved_7d as bigint) as authorization_count_7d,
    cast(approved_30d as bigint) as authorization_count_30d,
    cast(amount_1d as bigint) as authorization_amount_1d_minor,
    cast(amount_7d as bigint) as authorization_amount_7d_minor,
    cast(amount_30d as bigint) as authorization_amount_30d_minor,
    cast(declined_1d as bigint) as declined_count_1d,
    cast(declined_7d as bigint) as declined_count_7d,
    cast(declined_30d as bigint) as declined_count_30d,
    cast(largest_30d as bigint) as authorization_amount_max_30d_minor
from sums
where {{ is_since_touched('changed_at', 'card') }}
