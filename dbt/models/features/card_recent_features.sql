-- A log of what was heard of the card in the last 24 hours, and when and where it was last used: as
-- `recent_authorizations` tells.
{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'card',
                'key': 'card_id',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with states as (
    {{ recent_authorizations('card', 'card_id', 128, has_uses=true) }}
)

select
    entity_id as card_id,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_authorizations,
    last_used_us,
    last_declined_us,
    last_place
from states
{{ in_order_of('event_timestamp') }}
