{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'device', 'key': 'device_key', 'since': 'event_timestamp'}},
    )
}}

with sums as (
    {{ risk_sums('device', 'device_id') }}
)

select
    entity_id as device_key,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {{ risk_columns('device_') }},
    {{ velocity_columns('device') }}
from sums
where {{ is_since_touched('changed_at', 'device') }}
{{ in_order_of('event_timestamp') }}
