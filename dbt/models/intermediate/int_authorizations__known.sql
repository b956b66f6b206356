-- What stands for a transaction in velocities and amounts, and from when to when we believed it:
-- its first authorization, or its first clearing where no authorization is known. Days are the
-- grain of known time: what arrived during a day is known at its end.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'transaction', 'key': 'transaction_id'}},
    )
}}

with candidates as (
    select
        transaction_id,
        event_id,
        version_no,
        card_id,
        account_id,
        merchant_id,
        event_at,
        cast(event_at as date) as active_from,
        amount_minor,
        coalesce(auth_result = 'DECLINED', false) as is_declined,
        event_type <> 'CLEARING' as is_authorization,
        cast(received_at as date) as known_from,
        cast(superseded_at as date) as known_to
    from {{ ref('int_transaction_events__versioned') }}
    where
        event_type in ('AUTHORIZATION', 'FINANCIAL_AUTHORIZATION', 'CLEARING')
        and direction = 'DEBIT'
        and coalesce(transaction_class, 'PURCHASE') in ('PURCHASE', 'CASH_ADVANCE', 'QUASI_CASH')
        and (
            superseded_at is null
            or cast(superseded_at as date) > cast(received_at as date)
        )
        and {{ is_touched('transaction_id', 'transaction') }}
),

ranked as (
    select
        *,
        row_number() over (
            partition by transaction_id
            order by is_authorization desc, event_at, event_id, version_no
        ) as preference,
        min(known_from) over (partition by transaction_id) as first_known_from
    from candidates
),

-- Nearly all: the message that is preferred was known first and was never corrected.
undisputed as (
    select *
    from ranked
    where preference = 1 and known_to is null and known_from = first_known_from
),

disputed as (
    select *
    from ranked
    where transaction_id not in (select transaction_id from undisputed)
),

moments as (
    select
        transaction_id,
        known_from as moment
    from disputed
    union
    select
        transaction_id,
        known_to as moment
    from disputed
    where known_to is not null
),

-- The preferred message at each day on which something about the transaction became known; none
-- where all that was known had been corrected away.
believed as (
    select
        moments.transaction_id,
        moments.moment,
        disputed.event_id,
        disputed.version_no
    from moments
    left join disputed
        on
            moments.transaction_id = disputed.transaction_id
            and moments.moment >= disputed.known_from
            and moments.moment < coalesce(disputed.known_to, date '9999-12-31')
    qualify row_number() over (
        partition by moments.transaction_id, moments.moment
        order by disputed.preference nulls last
    ) = 1
),

changes as (
    select *
    from (
        select
            *,
            lag(event_id) over (partition by transaction_id order by moment) as previous_event_id,
            lag(version_no) over (partition by transaction_id order by moment)
                as previous_version_no
        from believed
    ) as in_order
    where
        event_id is distinct from previous_event_id
        or version_no is distinct from previous_version_no
),

periods as (
    select
        transaction_id,
        event_id,
        version_no,
        moment as believed_from,
        lead(moment) over (partition by transaction_id order by moment) as believed_to
    from changes
)

select
    transaction_id,
    event_id,
    card_id,
    account_id,
    merchant_id,
    amount_minor,
    is_declined,
    active_from,
    greatest(known_from, active_from) as known_from,
    cast(null as date) as known_to
from undisputed
union all
select
    disputed.transaction_id,
    disputed.event_id,
    disputed.card_id,
    disputed.account_id,
    disputed.merchant_id,
    disputed.amount_minor,
    disputed.is_declined,
    disputed.active_from,
    greatest(periods.believed_from, disputed.active_from) as known_from,
    periods.believed_to as known_to
from periods
inner join disputed
    on
        periods.transaction_id = disputed.transaction_id
        and periods.event_id = disputed.event_id
        and periods.version_no = disputed.version_no
