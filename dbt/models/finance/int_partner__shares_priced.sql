-- One row per program, period and component of the rate card in force on the period's last day:
-- the quantity of its details priced through the tiers of the card, exactly. Tiers are of the
-- month's quantity. A marketing fund is a fixed amount; a guarantee brings what we owe for the
-- other components up to its amount.
with periods as (
    select * from {{ ref('periods') }}
),

cards as (
    select
        periods.program_id,
        periods.period,
        cards.component,
        cards.direction,
        cards.tier_from,
        cards.tier_to,
        cards.rate_micros,
        cards.version
    from periods
    inner join {{ source('partner_terms', 'partner_rate_cards') }} as cards
        on
            periods.program_id = cards.program_id
            and periods.ends_on >= cards.valid_from
            and periods.ends_on <= coalesce(cards.valid_to, date '9999-12-31')
),

quantities as (
    select
        program_id,
        period,
        component,
        sum(quantity_micros) as quantity_micros
    from {{ ref('partner_share_details') }}
    group by all
),

tiers as (
    select
        cards.*,
        case
            when cards.component in ('MARKETING_FUND', 'GUARANTEE_TRUE_UP')
                then cast(1000000 as hugeint)
            else coalesce(quantities.quantity_micros, 0)
        end as quantity_micros
    from cards
    left join quantities
        on
            cards.program_id = quantities.program_id
            and cards.period = quantities.period
            and cards.component = quantities.component
),

priced as (
    select
        program_id,
        period,
        component,
        direction,
        max(version) as rate_card_version,
        max(quantity_micros) as quantity_micros,
        sum(
            case when quantity_micros < 0 then -1 else 1 end
            * greatest(
                least(
                    abs(quantity_micros),
                    coalesce(cast(tier_to as hugeint) * 1000000, abs(quantity_micros))
                ) - cast(tier_from as hugeint) * 1000000,
                0
            )
            * rate_micros
        ) as amount_e12
    from tiers
    group by all
),

owed as (
    select
        program_id,
        period,
        sum(amount_e12) as amount_e12
    from priced
    where direction = 'PAYABLE' and component <> 'GUARANTEE_TRUE_UP'
    group by all
)

select
    priced.program_id,
    priced.period,
    priced.component,
    priced.direction,
    priced.rate_card_version,
    cast(priced.quantity_micros as decimal(38, 0)) as quantity_micros,
    cast(
        case
            when priced.component = 'GUARANTEE_TRUE_UP'
                then greatest(priced.amount_e12 - coalesce(owed.amount_e12, 0), 0)
            else priced.amount_e12
        end // 100 as decimal(38, 0)
    ) * cast(0.0000000001 as decimal(10, 10)) as amount_extended
from priced
left join owed on priced.program_id = owed.program_id and priced.period = owed.period
