-- When a card was issued and activated, as it was known from each of its states on.
{{ config(unique_key='card_id', incremental_strategy='delete+insert') }}

select
    card_id,
    valid_from as event_timestamp,
    valid_from as created_timestamp,
    {{ microseconds('issued_at') }} as issued_us,
    {{ microseconds('activated_at') }} as activated_us
from {{ ref('dim_cards') }}
{{ where_key_is_new('card_id', [ref('stg_landing__cards')]) }}
{{ in_order_of('event_timestamp') }}
