-- Since when an account has used a merchant, and what it bought there lately: as `recent_uses`
-- tells. The first use is never forgotten, also if it was told too late for the others.
{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'account_merchant',
                'key': 'account_merchant_key',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_uses('account_merchant', 'merchant_id') }}
),

first_uses as (
    select *
    from (
        select
            {{ pair_key('account_id', 'name') }} as entity_id,
            first_known_at
        from {{ ref('int_accounts__first_seen') }}
        where kind = 'merchant' and {{ is_touched('account_id', 'account') }}
    ) as pairs
    where {{ is_touched('entity_id', 'account_merchant') }}
),

known_uses as (
    select
        states.entity_id,
        states.changed_at,
        states.recent_uses,
        first_uses.first_known_at
    from states
    left join first_uses on states.entity_id = first_uses.entity_id
    union all
    select
        first_uses.entity_id,
        first_uses.first_known_at as changed_at,
        '' as recent_uses,
        first_uses.first_known_at
    from first_uses
    left join states
        on
            first_uses.entity_id = states.entity_id
            and first_uses.first_known_at = states.changed_at
    where
        states.entity_id is null
        and {{ is_since_touched('first_uses.first_known_at', 'account_merchant') }}
)

select
    entity_id as account_merchant_key,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    {{ microseconds('first_known_at') }} as first_used_us,
    recent_uses as merchant_recent_uses
from known_uses
{{ in_order_of('event_timestamp') }}
