-- What was held of a transaction, from when to when, in days of known time: the judgement made last
-- of those that had been made and had arrived.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'label', 'key': 'transaction_id'}},
    )
}}

with labels as (
    select
        *,
        greatest(known_at, received_at) as usable_at
    from {{ ref('stg_landing__fraud_labels') }}
    where {{ is_touched('transaction_id', 'label') }}
    -- A label that is delivered again tells nothing new.
    qualify row_number() over (
        partition by label_id, record_hash order by received_at, batch_date, file_id, line_no
    ) = 1
),

{% set latest = 'known_at desc, received_at desc, batch_date desc, file_id desc, line_no desc' %}

latest_of_day as (
    select
        *,
        cast(usable_at as date) as known_from
    from labels
    qualify row_number() over (
        partition by transaction_id, cast(usable_at as date) order by {{ latest }}
    ) = 1
),

-- A judgement made earlier that arrives later than another changes nothing.
never_older as (
    select *
    from latest_of_day
    qualify known_at >= coalesce(
        max(known_at) over (
            partition by transaction_id order by known_from
            rows between unbounded preceding and 1 preceding
        ),
        known_at
    )
)

select
    transaction_id,
    label_id,
    label,
    fraud_type,
    label = 'FRAUD'
    and coalesce(fraud_type, '') not in ({{ quoted(var('first_party_fraud_types')) }})
        as is_fraud,
    known_from,
    lead(known_from) over (partition by transaction_id order by known_from) as known_to
from never_older
