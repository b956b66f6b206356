-- One row per program, period, component, partner's share and prior-period mark: a line of the
-- monthly settlement with the program's partner. Priced exactly (amount_extended, minor units with
-- ten decimals) and rounded once, to amount_minor; what the rounding took or gave is
-- rounding_residue.
--
-- POINT_PURCHASE: points transferred to the partner's own currency, bought at its price (payable).
-- PARTNER_FUNDING, PARTNER_FUNDING_REVERSAL: the partner's share of the points issued on its
-- offers, and of those clawed back, at the value of a point (receivable, the second negative).
-- Lines of entries that take effect in an earlier month stand apart (is_prior_period).
{{ config(tags=['finance']) }}

with movements as (
    select * from {{ ref('int_rewards__movements_summed') }}
),

terms as (
    select * from {{ ref('int_program_terms__by_period') }}
),

periods as (
    select * from {{ ref('periods') }}
),

components as (
    select
        movements.program_id,
        movements.period,
        movements.is_prior_period,
        'POINT_PURCHASE' as component,
        'PAYABLE' as direction,
        10000 as share_bps,
        sum(movements.points) as points,
        max(terms.purchase_price_micros) as price_micros
    from movements
    inner join terms
        on movements.program_id = terms.program_id and movements.period = terms.period
    where movements.ledger_account = 'PARTNER_TRANSFER_CLEARING'
    group by all

    union all

    select
        funding.program_id,
        funding.period,
        funding.is_prior_period,
        case
            when funding.is_gain then 'PARTNER_FUNDING' else 'PARTNER_FUNDING_REVERSAL'
        end as component,
        'RECEIVABLE' as direction,
        funding.funding_partner_bps as share_bps,
        funding.points,
        terms.point_value_micros as price_micros
    from {{ ref('int_rewards__funding_summed') }} as funding
    inner join terms
        on funding.program_id = terms.program_id and funding.period = terms.period
),

priced as (
    select
        *,
        cast(cast(points as hugeint) * share_bps * price_micros as decimal(28, 0))
        * cast(0.0000000001 as decimal(10, 10)) as amount_extended
    from components
    where points <> 0
)

select
    priced.program_id || ':' || priced.period || ':' || priced.component
    || case when priced.share_bps < 10000 then ':' || priced.share_bps else '' end
    || case when priced.is_prior_period then ':PRIOR' else '' end as invoice_line_id,
    priced.program_id,
    priced.period,
    terms.partner_id,
    priced.component,
    priced.direction,
    priced.is_prior_period,
    cast(priced.points as bigint) as points,
    cast(priced.price_micros as bigint) as price_micros,
    cast(priced.share_bps as bigint) as share_bps,
    cast(priced.amount_extended as decimal(38, 10)) as amount_extended,
    cast(round(priced.amount_extended, 0) as bigint) as amount_minor,
    cast(
        priced.amount_extended - round(priced.amount_extended, 0) as decimal(38, 10)
    ) as rounding_residue,
    terms.currency,
    periods.version
from priced
inner join terms
    on priced.program_id = terms.program_id and priced.period = terms.period
inner join periods
    on priced.program_id = periods.program_id and priced.period = periods.period
