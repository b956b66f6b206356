-- One row per program and month, from the program's first entry in the ledger to the last month
-- that any program has an entry in; a month without entries is there too. The state is the last
-- one that the log of closes has for it: a view, so that a close counts from its commit on.
{{ config(materialized='view') }}

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
),

states as (
    select
        program_id,
        period,
        state,
        version,
        preparer,
        approver,
        known_at
    from {{ source('closes', 'period_log') }}
    qualify row_number() over (partition by program_id, period order by log_no desc) = 1
)

select
    first_periods.program_id,
    strftime(months.starts_on, '%Y-%m') as period,
    months.starts_on,
    last_day(months.starts_on) as ends_on,
    coalesce(states.state, 'OPEN') as state,
    cast(coalesce(states.version, 1) as integer) as version,
    states.preparer,
    states.approver,
    states.known_at
from first_periods
inner join months on strftime(months.starts_on, '%Y-%m') >= first_periods.first_period
left join states
    on
        first_periods.program_id = states.program_id
        and strftime(months.starts_on, '%Y-%m') = states.period
