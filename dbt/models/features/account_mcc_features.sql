-- What an account bought in a category, for what is computed at the request: as `recent_uses`
-- tells.
{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'account_mcc',
                'key': 'account_mcc_key',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_uses('account_mcc', 'mcc') }}
)

select
    entity_id as account_mcc_key,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_uses as mcc_recent_uses
from states
{{ in_order_of('event_timestamp') }}
