{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'ip', 'key': 'ip_key', 'since': 'event_timestamp'}},
    )
}}

with sums as (
    {{ risk_sums('ip', 'ip_hash') }}
)

select
    entity_id as ip_key,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {{ risk_columns('ip_') }},
    {{ velocity_columns('ip') }}
from sums
where {{ is_since_touched('changed_at', 'ip') }}
{{ in_order_of('event_timestamp') }}
