-- One row per program, period, original month and event type: entries that take effect in a month
-- that was closed before they came, and are posted in this one. Points and money are what they did
-- to the liability; they are contained in the flows of the roll-forward.
with movements as (
    select * from {{ ref('int_rewards__movements_summed') }}
    where is_prior_period
),

terms as (
    select * from {{ ref('int_program_terms__by_period') }}
),

summed as (
    select
        program_id,
        period,
        effective_period,
        event_type,
        cast(
            sum(points) filter (
                where ledger_account in (
                    'MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING'
                )
            ) as bigint
        ) as points,
        -- Every entry has one account on its other side, whatever it does to members' accounts.
        cast(
            sum(journals) filter (
                where ledger_account not in (
                    'MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING'
                )
            ) as bigint
        ) as entries
    from movements
    group by all
)

select
    summed.program_id,
    summed.period,
    summed.effective_period as original_period,
    summed.event_type,
    coalesce(summed.entries, 0) as entries,
    summed.points,
    {{ money_from_points('summed.points', 'terms.point_value_micros') }} as amount_minor,
    terms.currency
from summed
inner join terms
    on summed.program_id = terms.program_id and summed.period = terms.period
where summed.entries > 0
