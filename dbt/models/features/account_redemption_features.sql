-- An account's redemptions and transfers that were heard of in the last 7 days, each as
-- `<microseconds>:<points>`. What is cancelled later was asked for all the same.
{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'redeeming_account', 'key': 'account_id'}},
    )
}}

-- All rows of the accounts' events; another one of an event may be of another account.
with arrived as (
    select *
    from {{ ref('stg_landing__reward_events') }}
    where reward_event_id in (
        select reward_event_id
        from {{ ref('stg_landing__reward_events') }}
        where {{ is_touched('account_id', 'redeeming_account') }}
    )
),

first_told as (
    select
        account_id,
        greatest(received_at, event_at) as known_at,
        {{ microseconds('event_at') }} || ':' || points as message
    from ({{ versions('arrived', ['reward_event_id']) }}) as told
    where
        version_no = 1
        and kind in ('REDEEM', 'TRANSFER')
        and points is not null
        and {{ is_touched('account_id', 'redeeming_account') }}
),

{% set by_time = 'partition by account_id order by known_at' %}

states as (
    select
        account_id,
        known_at,
        count(*) over (
            {{ by_time }} range between interval '7' day preceding and current row
        ) - 1 as earlier,
        message
    from first_told
)

select
    account_id,
    known_at as event_timestamp,
    known_at as created_timestamp,
    {{ last_texts('message', 'earlier', by_time, days=7) }} as recent_redemptions
from states
qualify known_at is distinct from lead(known_at) over ({{ by_time }}, message)
{{ in_order_of('event_timestamp') }}
