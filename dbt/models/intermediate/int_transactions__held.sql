-- What each transaction still holds of the credit available, and how far it has come. A hold is
-- what was approved (increments included) less reversals, clearings and expiries, never below zero,
-- and no part of the posted balance. A late clearing settles what had expired.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'transaction',
                'key': 'transaction_id',
                'since': 'first_event_at',
                'is_instant': true,
            }
        },
    )
}}

with messages as (
    select
        *,
        case when direction = 'DEBIT' then amount_minor else -amount_minor end as signed_minor,
        (
            event_type in (
                'CLEARING', 'FINANCIAL_AUTHORIZATION', 'FINANCIAL_CREDIT_AUTHORIZATION',
                'RETURN', 'RETURN_REVERSAL', 'CORRECTION_CREDIT', 'CORRECTION_DEBIT'
            )
            and auth_result is distinct from 'DECLINED'
        ) as is_posted
    from {{ ref('int_transaction_events__versioned') }}
    where
        superseded_at is null
        and event_type <> 'BALANCE_INQUIRY'
        and {{ is_touched('transaction_id', 'transaction') }}
        and {{ is_since_touched('event_at', 'transaction') }}
),

summed as (
    select
        transaction_id,
        coalesce(sum(amount_minor) filter (
            where event_type in ('AUTHORIZATION', 'AUTHORIZATION_ADVICE')
            and auth_result is distinct from 'DECLINED'
        ), 0) as approved_minor,
        coalesce(sum(amount_minor) filter (
            where event_type = 'AUTHORIZATION_REVERSAL'
        ), 0) as reversed_minor,
        coalesce(sum(amount_minor) filter (
            where event_type = 'AUTHORIZATION_EXPIRY'
        ), 0) as expired_minor,
        coalesce(sum(amount_minor) filter (where event_type = 'CLEARING'), 0) as cleared_minor,
        coalesce(sum(signed_minor) filter (where is_posted), 0) as posted_minor,
        count(*) filter (where is_posted) as posted_n,
        count(*) filter (where auth_result = 'DECLINED') as declined_n,
        count(*) filter (where auth_result is distinct from 'DECLINED') as accepted_n,
        min(event_at) as first_event_at,
        max(received_at) as received_at
    from messages
    group by transaction_id
),

held as (
    select
        *,
        greatest(approved_minor - reversed_minor - expired_minor - cleared_minor, 0) as hold_minor
    from summed
)

select
    transaction_id,
    cast(approved_minor as bigint) as approved_minor,
    cast(reversed_minor as bigint) as reversed_minor,
    cast(expired_minor as bigint) as expired_minor,
    cast(cleared_minor as bigint) as cleared_minor,
    cast(hold_minor as bigint) as hold_minor,
    cast(posted_minor as bigint) as posted_minor,
    case
        when posted_n > 0 then 'SETTLED'
        when declined_n > 0 and accepted_n = 0 then 'DECLINED'
        when hold_minor > 0 or approved_minor = 0 then 'PENDING'
        when expired_minor > 0 then 'EXPIRED'
        else 'VOIDED'
    end as status,
    first_event_at,
    received_at
from held
{{ in_order_of('first_event_at') }}
