-- Fraud counts from the day on which the judgement was known, not from that of the transaction.
{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'merchant', 'key': 'merchant_id', 'since': 'event_timestamp'}},
    )
}}

with known as (
    select *
    from {{ ref('int_authorizations__known') }}
    where
        not is_declined
        and merchant_id is not null
        and {{ is_touched('merchant_id', 'merchant') }}
        and {{ is_since_touched('active_from', 'merchant', 90) }}
),

frauds as (
    select *
    from {{ ref('int_fraud_labels__known') }}
    where is_fraud
),

contributions as (
    select
        merchant_id as entity_id,
        active_from,
        known_from,
        known_to,
        count(*) as transactions,
        0 as frauds
    from known
    group by merchant_id, active_from, known_from, known_to
    union all
    select
        known.merchant_id as entity_id,
        known.active_from,
        greatest(known.known_from, frauds.known_from) as known_from,
        least(known.known_to, frauds.known_to) as known_to,
        0 as transactions,
        1 as frauds
    from known
    inner join frauds on known.transaction_id = frauds.transaction_id
    where
        (known.known_to is null or frauds.known_from < known.known_to)
        and (frauds.known_to is null or known.known_from < frauds.known_to)
),

sums as (
    {{ window_sums(
        'contributions',
        {'transactions': [1, 7, 30, 90], 'frauds': [7, 30, 90]},
        'date'
    ) }}
)

select
    entity_id as merchant_id,
    {{ midnight_after('changed_at') }} as event_timestamp,
    {{ midnight_after('changed_at') }} as created_timestamp,
    cast(transactions_1d as bigint) as transaction_count_1d,
    cast(transactions_7d as bigint) as transaction_count_7d,
    cast(transactions_30d as bigint) as transaction_count_30d,
    cast(transactions_90d as bigint) as transaction_count_90d,
    cast(frauds_7d as bigint) as fraud_count_7d,
    cast(frauds_30d as bigint) as fraud_count_30d,
    cast(frauds_90d as bigint) as fraud_count_90d,
    {{ smoothed_rate('frauds_30d', 'transactions_30d') }} as fraud_rate_30d,
    {{ smoothed_rate('frauds_90d', 'transactions_90d') }} as fraud_rate_90d
from sums
where {{ is_since_touched('changed_at', 'merchant') }}
