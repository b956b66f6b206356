-- One row per program, accounting period, partner's share, direction and prior-period mark: points
-- that rules with a partner's share gave (points above zero) or took back, in the period that
-- their entries are posted in. Taken from the decisions, since a clawback may draw on lots that
-- somebody else funded. A corrected decision counts with its entry, and against it with the entry
-- that reverses it.
with decisions as (
    select
        journal_id,
        funding_partner_bps,
        points,
        cast(null as timestamp) as superseded_at
    from {{ source('rewards_ledger', 'decisions') }}
    where journal_id is not null
    union all
    select
        journal_id,
        funding_partner_bps,
        points,
        superseded_at
    from {{ source('rewards_ledger', 'superseded_decisions') }}
    where journal_id is not null
),

-- A correction that moves no points keeps its entry: then the decisions that hold, or the last
-- that held, speak for it.
decided as (
    select
        journal_id,
        funding_partner_bps,
        points
    from decisions
    where true
    qualify dense_rank() over (
        partition by journal_id order by superseded_at desc nulls first
    ) = 1
),

journal as (
    select * from {{ source('rewards_ledger', 'journal') }}
),

posted as (
    select
        journal.program_id,
        journal.accounting_period,
        journal.effective_on,
        decided.funding_partner_bps,
        decided.points > 0 as is_gain,
        decided.points
    from decided
    inner join journal on decided.journal_id = journal.journal_id
    where decided.funding_partner_bps > 0
    union all
    select
        journal.program_id,
        journal.accounting_period,
        journal.effective_on,
        decided.funding_partner_bps,
        decided.points > 0 as is_gain,
        -decided.points as points
    from decided
    inner join journal on decided.journal_id = journal.reverses_journal_id
    where decided.funding_partner_bps > 0
)

select
    program_id,
    accounting_period as period,
    funding_partner_bps,
    is_gain,
    strftime(effective_on, '%Y-%m') < accounting_period as is_prior_period,
    cast(sum(points) as bigint) as points
from posted
group by all
