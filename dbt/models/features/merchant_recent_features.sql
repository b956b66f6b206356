{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'merchant',
                'key': 'merchant_id',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_authorizations('merchant', 'merchant_id', 32) }}
)

select
    entity_id as merchant_id,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_authorizations as merchant_recent_authorizations
from states
{{ in_order_of('event_timestamp') }}
