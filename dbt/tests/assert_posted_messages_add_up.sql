-- Every posted message is in exactly one posted transaction, and nothing is lost between them. In a
-- daily run: for the transactions that it touched.
{% set touched = ref('int_entities__touched') %}
{% set these = "where transaction_id in (select entity_id from " ~ touched
    ~ " where entity = 'transaction') and event_at >= " ~ first_touched_on('transaction')
    if from_load_no() >= 0 else "" %}

with messages as (
    select
        sum(case when direction = 'DEBIT' then amount_minor else -amount_minor end) as signed_minor,
        count(*) as message_count
    from {{ ref('fct_posted_events') }}
    {{ these }}
),

transactions as (
    select
        sum(case when direction = 'DEBIT' then amount_minor else -amount_minor end) as signed_minor,
        sum(posted_event_count) as message_count
    from {{ ref('fct_posted_transactions') }}
    {{ these }}
)

select
    messages.message_count as messages,
    transactions.message_count as in_transactions,
    messages.signed_minor as minor_of_messages,
    transactions.signed_minor as minor_of_transactions
from messages
cross join transactions
where
    messages.message_count <> coalesce(transactions.message_count, 0)
    or messages.signed_minor is distinct from transactions.signed_minor
