-- Fraud counts from the day on which the judgement was known, not from that of the transaction.
{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'merchant', 'key': 'merchant_id', 'since': 'event_timestamp'}},
    )
}}

with sums as (
    {{ risk_sums('merchant', 'merchant_id') }}
)

select
    entity_id as merchant_id,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    {{ risk_columns('', count='transaction_count') }},
    {{ velocity_columns('merchant') }}
from sums
where {{ is_since_touched('changed_at', 'merchant') }}
{{ in_order_of('event_timestamp') }}
