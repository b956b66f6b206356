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

{% set lists = {'mcc': 'mccs', 'country': 'countries', 'device': 'devices'} %}

moments as (
    select
        account_id,
        {% for kind in lists %}
        {{ joined_in_group("case when kind = '" ~ kind ~ "' then name end") }} as {{ kind }},
        {% endfor %}
        first_known_at
    from first_seen
    group by account_id, first_known_at
),

states as (
    select
        account_id,
        {% for kind, plural in lists.items() %}
        {{ last_joined(
            kind, 200,
            'partition by account_id order by first_known_at '
            ~ 'rows between unbounded preceding and current row'
        ) }} as known_{{ plural }},
        {% endfor %}
        first_known_at
    from moments
)

select
    account_id,
    first_known_at as event_timestamp,
    first_known_at as created_timestamp,
    known_mccs,
    known_countries,
    known_devices
from states
where {{ is_since_touched('first_known_at', 'account') }}
