-- What is open of all cohorts and what is reserved, less what members owe, is the closing balance
-- of every period.
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

owed as (
    select
        rollforward.program_id,
        rollforward.period,
        coalesce(sum(deficits.deficit_change_points), 0) as deficit_points
    from {{ ref('liability_rollforward') }} as rollforward
    left join {{ ref('int_rewards__deficits_summed') }} as deficits
        on
            rollforward.program_id = deficits.program_id
            and rollforward.period >= deficits.period
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
