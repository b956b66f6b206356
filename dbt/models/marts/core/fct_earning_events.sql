-- What members earn by: posted events, and what takes a purchase out again without a refund.
--   CHARGEBACK       the issuer got money back in a dispute, or wrote it off as fraud; each by what
--                    the dispute has come to beyond its earlier events
--   FRAUD_CONFIRMED  a third party's fraud: all of the purchase, and what a refund or dispute gives
--                    back of it meanwhile
--   RETURN_REVERSAL  of the former, by what a dispute has come to below its earlier events (a
--                    merchant presented the purchase again), or of the latter, where a later label
--                    takes the fraud back
-- Such an event counts from when both it and the purchase are known, and never before the purchase.
-- What is told of a purchase can change its other events: all are of the newest file that tells of
-- it, and one that a correction emptied stays, with nothing.
{{ config(materialized='view', meta={'is_tested_by_its_sources': true}) }}

{# No CTE: of one that is read three times all rows would be kept in memory. #}
{% set posted = ref('fct_posted_events') %}

-- What an event leaves out is as the dispute's earlier events have it.
with disputed as (
    select
        * replace (
            {% for column in ['recovered_minor', 'written_off_minor', 'reason'] %}
            last_value({{ column }} ignore nulls) over in_time as {{ column }}
            {{ ',' if not loop.last }}
            {% endfor %}
        )
    from {{ ref('fct_disputes') }}
    window
        in_time as (
            partition by dispute_id order by event_at, dispute_event_id
            rows between unbounded preceding and current row
        )
),

lost as (
    select
        *,
        coalesce(recovered_minor, 0) + case
            when reason like 'FRAUD%' then coalesce(written_off_minor, 0) else 0
        end as lost_minor
    from disputed
),

dispute_steps as (
    select
        *,
        lost_minor - lag(lost_minor, 1, 0) over (
            partition by dispute_id order by event_at, dispute_event_id
        ) as more_minor
    from lost
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
        case when more_minor >= 0 then 'CHARGEBACK' else 'RETURN_REVERSAL' end as event_type,
        case when more_minor >= 0 then 'CREDIT' else 'DEBIT' end as direction,
        transaction_id as purchase_id,
        event_at,
        abs(more_minor) as amount_minor,
        received_at,
        version_no,
        record_hash,
        file_id,
        batch_date
    from dispute_steps
    where more_minor <> 0 or version_no > 1
    union all
    select
        'fraud:' || label_id as event_id,
        'fraud:' || transaction_id as transaction_id,
        case when is_fraud then 'FRAUD_CONFIRMED' else 'RETURN_REVERSAL' end as event_type,
        case when is_fraud then 'CREDIT' else 'DEBIT' end as direction,
        transaction_id as purchase_id,
        known_at as event_at,
        case when is_fraud = was_fraud then 0 end as amount_minor,
        received_at,
        version_no,
        record_hash,
        file_id,
        batch_date
    from label_steps
    where is_fraud <> was_fraud or version_no > 1
),

-- What else has taken a purchase out, or put it back, when a fraud is taken back.
others as (
    select
        event_id,
        coalesce(refunds_transaction_id, transaction_id) as purchase_id,
        event_at,
        case when direction = 'CREDIT' then amount_minor else -amount_minor end as amount_minor,
        received_at,
        file_id
    from {{ posted }}
    where direction = 'CREDIT' or transaction_class = 'REFUND'
    union all
    select
        event_id,
        purchase_id,
        event_at,
        case when direction = 'CREDIT' then amount_minor else -amount_minor end as amount_minor,
        received_at,
        file_id
    from taken_out
    where amount_minor is not null
),

taken_besides as (
    select
        taken_out.event_id,
        cast(sum(others.amount_minor) as bigint) as amount_minor,
        max(others.received_at) as received_at
    from taken_out
    inner join others
        on taken_out.purchase_id = others.purchase_id and taken_out.event_at >= others.event_at
    where taken_out.event_type = 'RETURN_REVERSAL' and taken_out.amount_minor is null
    group by taken_out.event_id
),

frauds as (
    select
        *,
        lead(known_at) over (partition by transaction_id order by known_at, label_id) as until_at
    from label_steps
    where is_fraud <> was_fraud
),

all_taken_out as (
    select * from taken_out
    union all
    select
        'fraud:' || frauds.label_id || ':' || others.event_id as event_id,
        'fraud:' || frauds.transaction_id as transaction_id,
        'FRAUD_CONFIRMED' as event_type,
        'CREDIT' as direction,
        frauds.transaction_id as purchase_id,
        others.event_at + interval '1' microsecond as event_at,
        -others.amount_minor as amount_minor,
        greatest(frauds.received_at, others.received_at) as received_at,
        frauds.version_no,
        frauds.record_hash,
        frauds.file_id,
        frauds.batch_date
    from frauds
    inner join others
        on
            frauds.transaction_id = others.purchase_id
            and frauds.known_at <= others.event_at
            and (frauds.until_at is null or frauds.until_at > others.event_at)
    where frauds.is_fraud and others.amount_minor < 0
),

purchases as (
    select *
    from {{ posted }}
    where
        direction = 'DEBIT'
        and transaction_class <> 'REFUND'
        and transaction_id in (select purchase_id from taken_out)
),

totals as (
    select
        transaction_id,
        cast(sum(amount_minor) as bigint) as amount_minor,
        max(event_at) as event_at,
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
        totals.event_at as all_event_at,
        totals.posted_on as all_posted_on,
        totals.received_at as all_received_at
    from purchases
    inner join totals on purchases.event_id = totals.event_id
),

told as (
    {% for told in ['fct_disputes', 'fct_fraud_labels'] %}
    select
        transaction_id as purchase_id,
        file_id
    from {{ ref(told) }}
    union
    {% endfor %}
    select
        purchase_id,
        file_id
    from others
    where purchase_id in (select purchase_id from taken_out)
    union
    select
        transaction_id as purchase_id,
        file_id
    from purchases
),

newest_files as (
    select
        told.purchase_id,
        max_by(
            told.file_id, lpad(cast(files.load_no as varchar), 12, '0') || told.file_id
        ) as file_id
    from told
    inner join {{ source('landing', 'files') }} as files on told.file_id = files.file_id
    group by told.purchase_id
),

of_purchases as (
    select
        all_taken_out.* exclude (amount_minor, received_at, file_id),
        bought.* exclude (
            event_id, transaction_id, event_type, event_at, posted_on, amount_minor, direction,
            transaction_class, refunds_transaction_id, received_at, version_no, record_hash,
            file_id, batch_date
        ),
        greatest(all_taken_out.event_at, bought.all_event_at) as counted_at,
        coalesce(
            all_taken_out.amount_minor,
            greatest(bought.total_minor - coalesce(taken_besides.amount_minor, 0), 0)
        ) as amount_minor,
        greatest(
            all_taken_out.received_at, bought.all_received_at, taken_besides.received_at
        ) as received_at,
        coalesce(newest_files.file_id, all_taken_out.file_id) as file_id
    from all_taken_out
    inner join bought on all_taken_out.purchase_id = bought.transaction_id
    left join taken_besides on all_taken_out.event_id = taken_besides.event_id
    left join newest_files on all_taken_out.purchase_id = newest_files.purchase_id
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
from {{ posted }}
union all
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
    counted_at as event_at,
    greatest({{ business_date('event_at', 'program_id') }}, all_posted_on) as posted_on,
    amount_minor,
    currency,
    direction,
    'REFUND' as transaction_class,
    mcc,
    merchant_country,
    purchase_id as refunds_transaction_id,
    received_at,
    version_no,
    record_hash,
    file_id,
    batch_date
from of_purchases
