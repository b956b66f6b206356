{{ config(materialized='view', meta={'is_of_transactions': true}) }}

with posted as (
    select * from {{ ref('int_posted_transactions__netted') }}
),

links as (
    select * from {{ ref('int_refunds__linked') }}
)

select
    posted.transaction_id,
    posted.account_id,
    posted.card_id,
    posted.program_id,
    posted.customer_id,
    posted.merchant_id,
    posted.partner_id,
    posted.event_at,
    posted.posted_on,
    posted.amount_minor,
    posted.currency,
    posted.direction,
    posted.transaction_class,
    posted.mcc,
    posted.merchant_country,
    posted.is_posted_on_imputed,
    posted.is_transaction_class_imputed,
    posted.is_mcc_imputed,
    posted.is_merchant_country_imputed,
    links.refunds_transaction_id,
    links.refund_link_method,
    links.refund_link_confidence,
    posted.posted_event_count,
    posted.received_at,
    posted.first_received_at
from posted
left join links on posted.transaction_id = links.transaction_id
