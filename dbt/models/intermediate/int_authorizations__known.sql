-- What stands for a transaction in features, and from when to when we believed it (`known_at`,
-- `known_until`): its first authorization, or its first clearing where no authorization is known.
-- Windows that change at midnights take the days of these times (`known_from`, `known_to`): what
-- arrived during a day is known at its end.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'transaction',
                'key': 'transaction_id',
                'since': 'event_at',
                'is_instant': true,
            }
        },
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
        mcc,
        merchant_country,
        device_id,
        ip_hash,
        event_at,
        amount_minor,
        coalesce(auth_result = 'DECLINED', false) as is_declined,
        entry_mode,
        is_card_present,
        latitude,
        longitude,
        event_type <> 'CLEARING' as is_authorization,
        received_at,
        superseded_at
    from {{ ref('int_transaction_events__versioned') }}
    where
        event_type in ('AUTHORIZATION', 'FINANCIAL_AUTHORIZATION', 'CLEARING')
        and direction = 'DEBIT'
        and coalesce(transaction_class, 'PURCHASE') in ('PURCHASE', 'CASH_ADVANCE', 'QUASI_CASH')
        and (superseded_at is null or superseded_at > received_at)
        and {{ is_touched('transaction_id', 'transaction') }}
        and {{ is_since_touched('event_at', 'transaction') }}
),

-- Few transactions leave a doubt: their preferred message was corrected, was not known first, or is
-- one of several.
disputed_transactions as (
    select transaction_id
    from candidates
    group by transaction_id
    having
        count(superseded_at) > 0
        or count(*) filter (where is_authorization) > 1
        or min(received_at) < min(received_at) filter (where is_authorization)
        or (count(*) > 1 and count(*) filter (where is_authorization) = 0)
),

authorized as (
    select transaction_id
    from candidates
    where is_authorization
),

undisputed as (
    select *
    from candidates
    where
        transaction_id not in (select transaction_id from disputed_transactions)
        and (
            is_authorization
            or transaction_id not in (select transaction_id from authorized)
        )
),

disputed as (
    select
        *,
        row_number() over (
            partition by transaction_id
            order by is_authorization desc, event_at, event_id, version_no
        ) as preference
    from candidates
    where transaction_id in (select transaction_id from disputed_transactions)
),

moments as (
    select
        transaction_id,
        received_at as moment
    from disputed
    union
    select
        transaction_id,
        superseded_at as moment
    from disputed
    where superseded_at is not null
),

-- The preferred message at each time at which something about the transaction became known; none
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
            and moments.moment >= disputed.received_at
            and moments.moment < coalesce(
                disputed.superseded_at, timestamp '9999-12-31 00:00:00'
            )
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
),

{% set columns = [
    'transaction_id', 'event_id', 'card_id', 'account_id', 'merchant_id', 'mcc', 'merchant_country',
    'device_id', 'ip_hash', 'event_at', 'amount_minor', 'is_declined', 'entry_mode', 'is_card_present',
    'latitude', 'longitude',
] %}

believed_messages as (
    select
        {% for column in columns %}
        {{ column }},
        {% endfor %}
        greatest(received_at, event_at) as known_at,
        cast(null as timestamp) as known_until
    from undisputed
    union all
    select
        {% for column in columns %}
        disputed.{{ column }},
        {% endfor %}
        greatest(periods.believed_from, disputed.event_at) as known_at,
        periods.believed_to as known_until
    from periods
    inner join disputed
        on
            periods.transaction_id = disputed.transaction_id
            and periods.event_id = disputed.event_id
            and periods.version_no = disputed.version_no
)

select
    *,
    cast(event_at as date) as active_from,
    cast(known_at as date) as known_from,
    cast(known_until as date) as known_to
from believed_messages
{{ in_order_of('event_at') }}
