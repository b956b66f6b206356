-- One row per program, accounting period, month that the entries take effect in, event type, ledger
-- account: the points posted, credit less debit. An entry that takes effect in a month that was
-- closed before it came is posted in a later one (is_prior_period).
with journal as (
    select
        *,
        strftime(effective_on, '%Y-%m') as effective_period
    from {{ source('rewards_ledger', 'journal') }}
),

postings as (
    select * from {{ source('rewards_ledger', 'postings') }}
)

select
    journal.program_id,
    journal.accounting_period as period,
    journal.effective_period,
    journal.event_type,
    postings.ledger_account,
    journal.effective_period < journal.accounting_period as is_prior_period,
    cast(
        sum(case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end)
        as bigint
    ) as points,
    count(distinct journal.journal_id) as journals
from journal
inner join postings on journal.journal_id = postings.journal_id
where postings.asset = 'PTS:' || journal.program_id
group by all
