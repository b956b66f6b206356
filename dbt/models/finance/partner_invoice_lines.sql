-- One row per program, period, component, partner's share and prior-period mark: a line of the
-- monthly settlement with the program's partner. Priced exactly (amount_extended, minor units with
-- ten decimals) and rounded once, to amount_minor; what the rounding took or gave is
-- rounding_residue.
--
-- POINT_PURCHASE: points transferred to the partner's own currency, bought at its price (payable),
-- which is that of the program's terms unless a rate card prices them.
-- PARTNER_FUNDING, PARTNER_FUNDING_REVERSAL: the partner's share of the points issued on its
-- offers, and of those clawed back, at the value of a point (receivable, the second negative).
-- Lines of entries that take effect in an earlier month stand apart (is_prior_period).
--
-- Components of the partner's rate card are reckoned on transactions and accounts
-- (partner_share_details). What a closed month was billed stays as it was; where its details have
-- changed since, the difference is a prior-period line of the first open month.
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

states as (
    select
        program_id,
        period,
        state = 'CLOSED' as is_closed,
        version,
        period = min(period) filter (where state <> 'CLOSED') over (partition by program_id)
            as is_first_open
    from periods
),

billed as (
    select lines.*
    from {{ source('partner_terms', 'closed_invoice_lines') }} as lines
    inner join states
        on
            lines.program_id = states.program_id
            and lines.period = states.period
            and lines.version = states.version
    where states.is_closed
),

-- Months whose purchased points are billed by a rate card: a closed month stays as it was billed.
carded as (
    select distinct
        shares.program_id,
        shares.period
    from {{ ref('int_partner__shares_priced') }} as shares
    inner join states
        on shares.program_id = states.program_id and shares.period = states.period
    where shares.component = 'POINT_PURCHASE' and not states.is_closed
    union
    select
        program_id,
        period
    from billed
    where component = 'POINT_PURCHASE' and original_period = period
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
    left join carded
        on movements.program_id = carded.program_id and movements.period = carded.period
    where
        movements.ledger_account = 'PARTNER_TRANSFER_CLEARING' and carded.program_id is null
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
),

-- What each closed month should have been billed by now, less what it was in it and since.
changed as (
    select
        program_id,
        original_period,
        component,
        direction,
        max(rate_card_version) as rate_card_version,
        sum(quantity_micros) as quantity_micros,
        sum(amount_extended) as amount_extended
    from (
        select
            shares.program_id,
            shares.period as original_period,
            shares.component,
            shares.direction,
            shares.rate_card_version,
            shares.quantity_micros,
            shares.amount_extended
        from {{ ref('int_partner__shares_priced') }} as shares
        inner join states
            on shares.program_id = states.program_id and shares.period = states.period
        where states.is_closed and shares.component <> 'POINT_PURCHASE'
        union all
        select
            program_id,
            original_period,
            component,
            direction,
            rate_card_version,
            -quantity_micros as quantity_micros,
            -amount_extended as amount_extended
        from billed
        where component <> 'POINT_PURCHASE'
    )
    group by all
    having sum(amount_extended) <> 0
),

shared as (
    select
        billed.program_id,
        billed.period,
        billed.original_period,
        billed.component,
        billed.direction,
        billed.rate_card_version,
        billed.quantity_micros,
        billed.amount_extended
    from billed
    union all
    select
        shares.program_id,
        shares.period,
        shares.period as original_period,
        shares.component,
        shares.direction,
        shares.rate_card_version,
        shares.quantity_micros,
        shares.amount_extended
    from {{ ref('int_partner__shares_priced') }} as shares
    inner join states
        on shares.program_id = states.program_id and shares.period = states.period
    where not states.is_closed and shares.amount_extended <> 0
    union all
    select
        changed.program_id,
        states.period,
        changed.original_period,
        changed.component,
        changed.direction,
        changed.rate_card_version,
        changed.quantity_micros,
        changed.amount_extended
    from changed
    inner join states on changed.program_id = states.program_id and states.is_first_open
),

every_line as (
    select
        program_id || ':' || period || ':' || component
        || case when share_bps < 10000 then ':' || share_bps else '' end
        || case when is_prior_period then ':PRIOR' else '' end as invoice_line_id,
        program_id,
        period,
        component,
        direction,
        is_prior_period,
        points,
        price_micros,
        share_bps,
        amount_extended,
        cast(null as varchar) as original_period,
        cast(null as decimal(38, 0)) as quantity_micros,
        cast(null as bigint) as rate_card_version
    from priced
    union all
    select
        program_id || ':' || period || ':' || component
        || case when original_period < period then ':' || original_period else '' end
            as invoice_line_id,
        program_id,
        period,
        component,
        direction,
        original_period < period as is_prior_period,
        case when component = 'POINT_PURCHASE' then quantity_micros // 1000000 else 0 end
            as points,
        0 as price_micros,
        10000 as share_bps,
        amount_extended,
        original_period,
        quantity_micros,
        rate_card_version
    from shared
)

select
    lines.invoice_line_id,
    lines.program_id,
    lines.period,
    terms.partner_id,
    lines.component,
    lines.direction,
    lines.is_prior_period,
    cast(lines.points as bigint) as points,
    cast(lines.price_micros as bigint) as price_micros,
    cast(lines.share_bps as bigint) as share_bps,
    cast(lines.amount_extended as decimal(38, 10)) as amount_extended,
    cast(round(lines.amount_extended, 0) as bigint) as amount_minor,
    cast(
        lines.amount_extended - round(lines.amount_extended, 0) as decimal(38, 10)
    ) as rounding_residue,
    terms.currency,
    periods.version,
    lines.original_period,
    cast(lines.quantity_micros as decimal(38, 0)) as quantity_micros,
    lines.rate_card_version
from every_line as lines
inner join terms
    on lines.program_id = terms.program_id and lines.period = terms.period
inner join periods
    on lines.program_id = periods.program_id and lines.period = periods.period
