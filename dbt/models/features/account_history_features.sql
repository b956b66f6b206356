-- Lists of what an account has used, the last 200 of each that were new, divided by the unit
-- separator. A row stands at each time at which something new was heard of.
{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'account',
                'key': 'account_id',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with first_seen as (
    select *
    from {{ ref('int_accounts__first_seen') }}
    where
        kind <> 'merchant'
        and {{ is_touched('account_id', 'account') }}
),

{% set in_order = 'partition by account_id order by first_known_at, kind, name' %}
{% set lists = {'mcc': 'mccs', 'country': 'countries', 'device': 'devices'} %}
{% set so_far = in_order ~ ' rows between unbounded preceding and current row' %}

-- What is heard of at one time is in the last of its rows.
states as (
    select
        account_id,
        first_known_at,
        {% for kind, plural in lists.items() %}
        {{ last_joined("case when kind = '" ~ kind ~ "' then name end", 200, so_far) }}
            as known_{{ plural }},
        {% endfor %}
        lead(first_known_at) over ({{ in_order }}) as next_known_at
    from first_seen
)

select
    account_id,
    first_known_at as event_timestamp,
    first_known_at as created_timestamp,
    known_mccs,
    known_countries,
    known_devices
from states
where
    first_known_at is distinct from next_known_at
    and {{ is_since_touched('first_known_at', 'account') }}
{{ in_order_of('event_timestamp') }}
