{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'mcc', 'key': 'mcc_key', 'since': 'event_timestamp'}},
    )
}}

with sums as (
    {{ risk_sums('mcc', 'mcc', has_cards=false) }}
)

select
    entity_id as mcc_key,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {{ risk_columns('mcc_') }},
    {{ velocity_columns('mcc', has_cards=false) }}
from sums
where {{ is_since_touched('changed_at', 'mcc') }}
{{ in_order_of('event_timestamp') }}
