{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'device',
                'key': 'device_key',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_authorizations('device', 'device_id', 32) }}
)

select
    entity_id as device_key,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_authorizations as device_recent_authorizations
from states
{{ in_order_of('event_timestamp') }}
