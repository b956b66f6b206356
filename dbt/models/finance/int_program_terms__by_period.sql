-- One row per program and period: the terms that price it. The value of a point and the breakage
-- estimate of the closing balance are those in force on the period's last day; the provision on
-- what was issued takes the estimate that was in force when the period began. Where no price is
-- agreed with the partner, points are bought at the value of a point, and where no cost of a
-- redeemed point is told, it is its value.
with periods as (
    select * from {{ ref('periods') }}
),

programs as (
    select * from {{ source('rewards_ledger', 'programs') }}
),

closing_terms as (
    select
        periods.program_id,
        periods.period,
        programs.* exclude (program_id)
    from periods
    inner join programs
        on
            periods.program_id = programs.program_id
            and periods.ends_on >= programs.valid_from
    qualify row_number() over (
        partition by periods.program_id, periods.period
        order by programs.valid_from desc, programs.version desc
    ) = 1
),

opening_terms as (
    select
        periods.program_id,
        periods.period,
        programs.breakage_bps
    from periods
    inner join programs
        on
            periods.program_id = programs.program_id
            and periods.starts_on >= programs.valid_from
    qualify row_number() over (
        partition by periods.program_id, periods.period
        order by programs.valid_from desc, programs.version desc
    ) = 1
)

select
    closing_terms.program_id,
    closing_terms.period,
    closing_terms.version as program_version,
    closing_terms.rule_hash,
    closing_terms.currency,
    closing_terms.asset_scale,
    closing_terms.settlement_model,
    closing_terms.partner_id,
    closing_terms.presentation,
    closing_terms.point_value_micros,
    coalesce(nullif(closing_terms.purchase_price_micros, 0), closing_terms.point_value_micros)
        as purchase_price_micros,
    coalesce(closing_terms.redemption_cost_micros, closing_terms.point_value_micros)
        as redemption_cost_micros,
    closing_terms.breakage_bps,
    coalesce(opening_terms.breakage_bps, closing_terms.breakage_bps) as provision_bps
from closing_terms
left join opening_terms
    on
        closing_terms.program_id = opening_terms.program_id
        and closing_terms.period = opening_terms.period
