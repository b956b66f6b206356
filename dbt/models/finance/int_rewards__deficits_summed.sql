-- One row per program and accounting period in which members' debts moved: by how many points
-- the balances below zero grew (positive) or were made good (negative).
with changes as (
    {{ deficit_changes('accounting_period') }}
)

select
    program_id,
    period,
    cast(sum(deficit_change_points) as bigint) as deficit_change_points
from changes
where deficit_change_points <> 0
group by program_id, period
