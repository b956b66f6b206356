-- One row per program, accounting period, event type, ledger account, partner's share of the
-- funding and prior-period mark: the points posted, credit less debit. The finance models read the
-- ledger only through this and int_rewards__deficits_summed.
with journal as (
    select * from {{ source('rewards_ledger', 'journal') }}
),

postings as (
    select * from {{ source('rewards_ledger', 'postings') }}
),

lots as (
    select * from {{ source('rewards_ledger', 'lots') }}
)

select
    journal.program_id,
    journal.accounting_period as period,
    journal.event_type,
    postings.ledger_account,
    strftime(journal.effective_on, '%Y-%m') < journal.accounting_period as is_prior_period,
    coalesce(lots.funding_partner_bps, 0) as funding_partner_bps,
    cast(
        sum(case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end)
        as bigint
    ) as points,
    count(distinct journal.journal_id) as journals
from journal
inner join postings on journal.journal_id = postings.journal_id
left join lots on postings.lot_id = lots.lot_id
where postings.asset = 'PTS:' || journal.program_id
group by all
