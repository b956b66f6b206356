-- One row per program, accounting period, event type, ledger account and prior-period mark: the
-- points posted, credit less debit.
with journal as (
    select * from {{ source('rewards_ledger', 'journal') }}
),

postings as (
    select * from {{ source('rewards_ledger', 'postings') }}
)

select
    journal.program_id,
    journal.accounting_period as period,
    journal.event_type,
    postings.ledger_account,
    strftime(journal.effective_on, '%Y-%m') < journal.accounting_period as is_prior_period,
    cast(
        sum(case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end)
        as bigint
    ) as points,
    count(distinct journal.journal_id) as journals
from journal
inner join postings on journal.journal_id = postings.journal_id
where postings.asset = 'PTS:' || journal.program_id
group by all
