-- What an account has ever used, and since when we know. A declined authorization makes nothing
-- familiar, and what was familiar is not taken back by a correction.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'account',
                'key': 'account_id',
                'since': 'first_known_at',
                'is_instant': true,
            }
        },
    )
}}

with known as (
    select *
    from {{ ref('int_authorizations__known') }}
    where
        not is_declined
        and (known_until is null or known_at < known_until)
        and {{ is_touched('account_id', 'account') }}
        and {{ is_since_touched('known_at', 'account') }}
),

seen as (
    {% for kind, column in [
        ('merchant', 'merchant_id'),
        ('mcc', 'mcc'),
        ('country', 'merchant_country'),
        ('device', 'device_id'),
    ] %}
    select
        account_id,
        '{{ kind }}' as kind,
        {{ column }} as name,
        min(known_at) as first_known_at
    from known
    where {{ column }} is not null
    group by account_id, {{ column }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    seen.account_id,
    seen.kind,
    seen.name,
    seen.first_known_at
from seen
{%- if is_delta() %}
left join {{ this }} as earlier
    on
        seen.account_id = earlier.account_id
        and seen.kind = earlier.kind
        and seen.name = earlier.name
        and earlier.first_known_at < {{ first_touched_on('account') }}
where earlier.account_id is null
{%- endif %}
