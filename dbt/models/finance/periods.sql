-- One row per program and month, from the program's first entry in the ledger to the last month
-- that any program has an entry in; a month without entries is there too.
with first_periods as (
    select
        program_id,
        min(period) as first_period
    from {{ ref('int_rewards__movements_summed') }}
    group by program_id
),

bounds as (
    select
        cast(min(period) || '-01' as date) as first_on,
        cast(max(period) || '-01' as date) as last_on
    from {{ ref('int_rewards__movements_summed') }}
),

months as (
    select cast(unnest(generate_series(first_on, last_on, interval 1 month)) as date) as starts_on
    from bounds
)

select
    first_periods.program_id,
    strftime(months.starts_on, '%Y-%m') as period,
    months.starts_on,
    last_day(months.starts_on) as ends_on,
    'OPEN' as state,
    cast(1 as integer) as version
from first_periods
inner join months on strftime(months.starts_on, '%Y-%m') >= first_periods.first_period
