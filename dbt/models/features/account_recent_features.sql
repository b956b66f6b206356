{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'account',
                'key': 'account_id',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_authorizations('account', 'account_id', 128) }}
)

select
    entity_id as account_id,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_authorizations as account_recent_authorizations
from states
{{ in_order_of('event_timestamp') }}
