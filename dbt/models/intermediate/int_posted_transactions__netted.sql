-- The transaction is what its first posted message says it is; its amount is what is left of all.
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

with posted as (
    select
        *,
        case when direction = 'DEBIT' then amount_minor else -amount_minor end as signed_of_event
    from {{ ref('int_posted_events__classified') }}
    where
        {{ is_touched('transaction_id', 'transaction') }}
        and {{ is_since_touched('event_at', 'transaction') }}
),

-- Few transactions post more than once, and only these are put in order.
repeated as (
    select transaction_id
    from posted
    group by transaction_id
    having count(*) > 1
),

numbered as (
    select
        *,
        row_number() over (
            partition by transaction_id order by posted_on, event_at, event_id
        ) as posting_no
    from posted
    where transaction_id in (select transaction_id from repeated)
),

{% set of_first = [
    'account_id', 'card_id', 'program_id', 'customer_id', 'merchant_id', 'partner_id', 'event_at',
    'posted_on', 'currency', 'direction', 'transaction_class', 'mcc', 'merchant_country',
    'is_posted_on_imputed', 'is_transaction_class_imputed', 'is_mcc_imputed',
    'is_merchant_country_imputed'
] %}

netted as (
    select
        transaction_id,
        {% for column in of_first %}
        {{ column }},
        {% endfor %}
        original_transaction_id,
        network_transaction_id,
        cast(1 as bigint) as posted_event_count,
        signed_of_event as signed_minor,
        received_at,
        first_received_at
    from posted
    where transaction_id not in (select transaction_id from repeated)
    union all
    select
        transaction_id,
        {% for column in of_first %}
        max({{ column }}) filter (where posting_no = 1) as {{ column }},
        {% endfor %}
        max(original_transaction_id) as original_transaction_id,
        max(network_transaction_id) as network_transaction_id,
        count(*) as posted_event_count,
        cast(sum(signed_of_event) as bigint) as signed_minor,
        max(received_at) as received_at,
        min(first_received_at) as first_received_at
    from numbered
    group by transaction_id
)

select
    transaction_id,
    account_id,
    card_id,
    program_id,
    customer_id,
    merchant_id,
    partner_id,
    event_at,
    posted_on,
    abs(signed_minor) as amount_minor,
    currency,
    case
        when signed_minor > 0 then 'DEBIT'
        when signed_minor < 0 then 'CREDIT'
        else direction
    end as direction,
    transaction_class,
    mcc,
    merchant_country,
    is_posted_on_imputed,
    is_transaction_class_imputed,
    is_mcc_imputed,
    is_merchant_country_imputed,
    original_transaction_id,
    network_transaction_id,
    posted_event_count,
    received_at,
    first_received_at
from netted
{{ in_order_of('event_at') }}
