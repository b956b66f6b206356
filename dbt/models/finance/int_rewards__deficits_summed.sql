-- One row per program and accounting period in which members' debts moved: by how many points
-- the balances below zero grew (positive) or were made good (negative).
with movements as (
    select
        journal.program_id,
        postings.account_id,
        journal.accounting_period as period,
        sum(
            case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end
        ) as points
    from {{ source('rewards_ledger', 'journal') }} as journal
    inner join {{ source('rewards_ledger', 'postings') }} as postings
        on journal.journal_id = postings.journal_id
    where
        postings.ledger_account = 'MEMBER_AVAILABLE'
        and postings.asset = 'PTS:' || journal.program_id
    group by all
),

balances as (
    select
        program_id,
        account_id,
        period,
        greatest(
            -sum(points) over (partition by program_id, account_id order by period), 0
        ) as deficit_points
    from movements
),

changes as (
    select
        program_id,
        period,
        deficit_points - coalesce(
            lag(deficit_points) over (partition by program_id, account_id order by period), 0
        ) as deficit_change_points
    from balances
)

select
    program_id,
    period,
    cast(sum(deficit_change_points) as bigint) as deficit_change_points
from changes
where deficit_change_points <> 0
group by program_id, period
