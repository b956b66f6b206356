-- A return that carries the purchase's own transaction_id refunds that purchase.
{{ config(materialized='view', meta={'is_of_transactions': true}) }}

with posted as (
    select * from {{ ref('int_posted_events__classified') }}
),

links as (
    select * from {{ ref('int_refunds__linked') }}
)

select
    posted.event_id,
    posted.transaction_id,
    posted.account_id,
    posted.card_id,
    posted.program_id,
    posted.customer_id,
    posted.merchant_id,
    posted.partner_id,
    posted.event_type,
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
    case
        when posted.transaction_class <> 'REFUND' then null
        when links.transaction_id is null then posted.transaction_id
        else links.refunds_transaction_id
    end as refunds_transaction_id,
    case
        when posted.transaction_class <> 'REFUND' then null
        when links.transaction_id is null then 'ORIGINAL_ID'
        else links.refund_link_method
    end as refund_link_method,
    case
        when posted.transaction_class <> 'REFUND' then null
        when links.transaction_id is null then 'CERTAIN'
        else links.refund_link_confidence
    end as refund_link_confidence,
    posted.received_at,
    posted.first_received_at,
    posted.version_no,
    posted.record_hash,
    posted.file_id,
    posted.batch_date
from posted
left join links on posted.transaction_id = links.transaction_id
