-- One row per program, cohort and period: what happened in an accounting period to the points that
-- were issued in a month (the cohort). Issued is net of what was taken back; a cancelled redemption
-- is a redemption less; points that are reserved for one count as redeemed. Issued less redeemed
-- less lapsed, up to a period, is what is open then.
with journal as (
    select
        journal_id,
        accounting_period,
        event_type
    from {{ source('rewards_ledger', 'journal') }}
),

lots as (
    select * from {{ source('rewards_ledger', 'lots_issued') }}
),

movements as (
    select
        lots.program_id,
        strftime(lots.issued_on, '%Y-%m') as cohort,
        journal.accounting_period as period,
        case when journal.event_type = 'REDEMPTION_CANCEL' then 'REDEEMED' else 'ISSUED' end
            as effect,
        case
            when journal.event_type = 'REDEMPTION_CANCEL' then -lots.points_issued
            else lots.points_issued
        end as points
    from lots
    inner join journal on lots.issue_journal_id = journal.journal_id

    union all

    select
        lots.program_id,
        strftime(lots.issued_on, '%Y-%m') as cohort,
        journal.accounting_period as period,
        case
            when
                journal.event_type in (
                    'REDEMPTION', 'RESERVATION', 'REDEMPTION_CANCEL', 'TRANSFER'
                )
                then 'REDEEMED'
            when journal.event_type in ('EXPIRY', 'FORFEITURE') then 'LAPSED'
            else 'ISSUED'
        end as effect,
        case
            when journal.event_type in (
                'REDEMPTION', 'RESERVATION', 'REDEMPTION_CANCEL', 'TRANSFER', 'EXPIRY',
                'FORFEITURE'
            ) then consumption.points
            else -consumption.points
        end as points
    from {{ source('rewards_ledger', 'lot_consumption') }} as consumption
    inner join lots on consumption.lot_id = lots.lot_id
    inner join journal on consumption.journal_id = journal.journal_id
)

select
    program_id,
    cohort,
    period,
    cast(coalesce(sum(points) filter (where effect = 'ISSUED'), 0) as bigint) as issued_points,
    cast(coalesce(sum(points) filter (where effect = 'REDEEMED'), 0) as bigint)
        as redeemed_points,
    cast(coalesce(sum(points) filter (where effect = 'LAPSED'), 0) as bigint) as lapsed_points
from movements
group by program_id, cohort, period
