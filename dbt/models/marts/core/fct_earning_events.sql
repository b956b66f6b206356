-- What members earn by: posted events, and what takes a purchase out again without a refund.
--   CHARGEBACK       the issuer got money back in a dispute, or wrote it off as fraud; each by what
--                    the dispute has come to beyond its earlier events
--   FRAUD_CONFIRMED  a third party's fraud: all of the purchase
--   RETURN_REVERSAL  of the latter, where a later label takes the fraud back
-- Such an event counts from when both it and the purchase are known, and never before the purchase.
{{ config(materialized='view', meta={'is_tested_by_its_sources': true}) }}

with posted as (
    select * from {{ ref('fct_posted_events') }}
),

disputed as (
    select
        *,
        coalesce(recovered_minor, 0) + case
            when reason like 'FRAUD%' then coalesce(written_off_minor, 0) else 0
        end as lost_minor
    from {{ ref('fct_disputes') }}
),

dispute_steps as (
    select
        *,
        lost_minor - coalesce(
            max(lost_minor) over (
                partition by dispute_id
                order by event_at, dispute_event_id
                rows between unbounded preceding and 1 preceding
            ), 0
        ) as more_minor
    from disputed
),

labelled as (
    select
        *,
        label = 'FRAUD' and coalesce(fraud_type, '') not in (
            {{ quoted(var('first_party_fraud_types')) }}
        ) as is_fraud
    from {{ ref('fct_fraud_labels') }}
    where label in ('FRAUD', 'LEGIT')
),

label_steps as (
    select
        *,
        coalesce(
            lag(is_fraud) over (partition by transaction_id order by known_at, label_id), false
        ) as was_fraud
    from labelled
),

taken_out as (
    select
        'chargeback:' || dispute_event_id as event_id,
        'chargeback:' || dispute_id as transaction_id,
        'CHARGEBACK' as event_type,
        'CREDIT' as direction,
        transaction_id as purchase_id,
        event_at,
        more_minor as amount_minor,
        received_at,
        version_no,
        record_hash,
        file_id,
        batch_date
    from dispute_steps
    where more_minor > 0
    union all
    select
        'fraud:' || label_id as event_id,
        'fraud:' || transaction_id as transaction_id,
        case when is_fraud then 'FRAUD_CONFIRMED' else 'RETURN_REVERSAL' end as event_type,
        case when is_fraud then 'CREDIT' else 'DEBIT' end as direction,
        transaction_id as purchase_id,
        known_at as event_at,
        cast(null as bigint) as amount_minor,
        received_at,
        version_no,
        record_hash,
        file_id,
        batch_date
    from label_steps
    where is_fraud <> was_fraud
),

purchases as (
    select *
    from posted
    where
        direction = 'DEBIT'
        and transaction_class <> 'REFUND'
        and transaction_id in (select purchase_id from taken_out)
),

totals as (
    select
        transaction_id,
        cast(sum(amount_minor) as bigint) as amount_minor,
        max(posted_on) as posted_on,
        max(received_at) as received_at,
        min(event_id) as event_id
    from purchases
    group by transaction_id
),

bought as (
    select
        purchases.*,
        totals.amount_minor as total_minor,
        totals.posted_on as all_posted_on,
        totals.received_at as all_received_at
    from purchases
    inner join totals on purchases.event_id = totals.event_id
)

select
    event_id,
    transaction_id,
    account_id,
    card_id,
    program_id,
    customer_id,
    merchant_id,
    partner_id,
    event_type,
    event_at,
    posted_on,
    amount_minor,
    currency,
    direction,
    transaction_class,
    mcc,
    merchant_country,
    refunds_transaction_id,
    received_at,
    version_no,
    record_hash,
    file_id,
    batch_date
from posted
union all
select
    taken_out.event_id,
    taken_out.transaction_id,
    bought.account_id,
    bought.card_id,
    bought.program_id,
    bought.customer_id,
    bought.merchant_id,
    bought.partner_id,
    taken_out.event_type,
    greatest(taken_out.event_at, bought.event_at) as event_at,
    greatest(
        {{ business_date('taken_out.event_at', 'bought.program_id') }}, bought.all_posted_on
    ) as posted_on,
    coalesce(taken_out.amount_minor, bought.total_minor) as amount_minor,
    bought.currency,
    taken_out.direction,
    'REFUND' as transaction_class,
    bought.mcc,
    bought.merchant_country,
    taken_out.purchase_id as refunds_transaction_id,
    greatest(taken_out.received_at, bought.all_received_at) as received_at,
    taken_out.version_no,
    taken_out.record_hash,
    case
        when bought.all_received_at > taken_out.received_at then bought.file_id
        else taken_out.file_id
    end as file_id,
    taken_out.batch_date
from taken_out
inner join bought on taken_out.purchase_id = bought.transaction_id
