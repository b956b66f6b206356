{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'ip',
                'key': 'ip_key',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_authorizations('ip', 'ip_hash', 32) }}
)

select
    entity_id as ip_key,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_authorizations as ip_recent_authorizations
from states
{{ in_order_of('event_timestamp') }}
