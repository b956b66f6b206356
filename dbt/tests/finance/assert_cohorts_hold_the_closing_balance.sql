-- What is open of all cohorts and what is reserved, less what members owed when it was recorded, is
-- the closing balance of every period.
with open_points as (
    select
        rollforward.program_id,
        rollforward.period,
        rollforward.closing_points,
        coalesce(
            sum(cohorts.issued_points - cohorts.redeemed_points - cohorts.lapsed_points), 0
        ) as cohort_points
    from {{ ref('liability_rollforward') }} as rollforward
    left join {{ ref('redemption_cohorts') }} as cohorts
        on
            rollforward.program_id = cohorts.program_id
            and rollforward.period >= cohorts.period
    group by all
),

-- A debt as the ledger had it when it worked the entry: what is recorded later of an earlier month
-- makes it good, though that month's books know of none.
debts as (
    {{ deficit_changes('seq') }}
),

owed as (
    select
        rollforward.program_id,
        rollforward.period,
        coalesce(sum(debts.deficit_change_points), 0) as deficit_points
    from {{ ref('liability_rollforward') }} as rollforward
    left join debts
        on
            rollforward.program_id = debts.program_id
            and rollforward.period >= debts.period
    group by all
),

reserved as (
    select
        rollforward.program_id,
        rollforward.period,
        coalesce(sum(movements.points), 0) as reserved_points
    from {{ ref('liability_rollforward') }} as rollforward
    left join {{ ref('int_rewards__movements_summed') }} as movements
        on
            rollforward.program_id = movements.program_id
            and rollforward.period >= movements.period
            and movements.ledger_account = 'REDEMPTION_CLEARING'
    group by all
)

select
    open_points.*,
    owed.deficit_points,
    reserved.reserved_points
from open_points
inner join owed
    on open_points.program_id = owed.program_id and open_points.period = owed.period
inner join reserved
    on open_points.program_id = reserved.program_id and open_points.period = reserved.period
where
    open_points.cohort_points + reserved.reserved_points - owed.deficit_points
    <> open_points.closing_points
