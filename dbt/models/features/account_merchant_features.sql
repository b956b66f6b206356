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

with pairs as (
    select
        {{ pair_key('account_id', 'name') }} as account_merchant_key,
        first_known_at
    from {{ ref('int_accounts__first_seen') }}
    where
        kind = 'merchant'
        and {{ is_touched('account_id', 'account') }}
        and {{ is_since_touched('first_known_at', 'account') }}
)

select
    account_merchant_key,
    first_known_at as event_timestamp,
    first_known_at as created_timestamp,
    {{ microseconds('first_known_at') }} as first_used_us
from pairs
where {{ is_touched('account_merchant_key', 'account_merchant') }}
{{ in_order_of('event_timestamp') }}
