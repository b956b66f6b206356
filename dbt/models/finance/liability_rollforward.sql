-- One row per program and period: what members are owed, from opening to closing, in points and in
-- money, and the breakage allowance beside it.
--
-- Points. The closing balance is what the members' accounts of the ledger hold
-- (MEMBER_PENDING, MEMBER_AVAILABLE, REDEMPTION_CLEARING); the flows are what the other side of
-- the entries holds (ISSUANCE, CLAWED_BACK, REDEEMED, ...). Neither is derived from the other, so
-- opening + flows = closing is a statement about the ledger, and no line exists to make it true.
--
-- Money. A balance of p points is worth money_from_points(p, value): the only rounding. Within a
-- period the flows are walked through in the order of the columns, and each is worth the balance
-- after it less the balance before it. They therefore add up to the closing balance exactly;
-- each is within one minor unit of its own points times the value, nothing is carried between
-- periods, and no points mean no money. A new value per point revalues the opening balance:
-- revalued_minor, which is contained in adjusted_minor.
--
-- Allowance. An estimate kept apart from the face: a first, simple assumption of one share of the
-- face that will never be redeemed (breakage_bps of the program's economics). It grows with what
-- is issued net of clawbacks, is used up by what expires or is forfeited, and is re-estimated to
-- the share of the closing face.
{{ config(tags=['finance']) }}

{% set flows = liability_flows() %}

with terms as (
    select * from {{ ref('int_program_terms__by_period') }}
),

periods as (
    select * from {{ ref('periods') }}
),

movements as (
    select
        program_id,
        period,
        {% for flow, account, sign, types in flows %}
        coalesce(
            sum({{ -sign }} * points) filter (where ledger_account = '{{ account }}'), 0
        ) as {{ flow }}_points,
        {% endfor %}
        coalesce(
            sum(points) filter (
                where ledger_account in ({{ quoted(liability_accounts()) }})
            ), 0
        ) as change_points
    from {{ ref('int_rewards__movements_summed') }}
    group by program_id, period
),

points as (
    select
        terms.program_id,
        terms.period,
        terms.currency,
        terms.point_value_micros,
        terms.breakage_bps,
        terms.provision_bps,
        periods.version,
        {% for flow, account, sign, types in flows %}
        cast(coalesce(movements.{{ flow }}_points, 0) as bigint) as {{ flow }}_points,
        {% endfor %}
        cast(
            sum(coalesce(movements.change_points, 0)) over (
                partition by terms.program_id order by terms.period
            ) as bigint
        ) as closing_points
    from terms
    inner join periods
        on terms.program_id = periods.program_id and terms.period = periods.period
    left join movements
        on terms.program_id = movements.program_id and terms.period = movements.period
),

opened as (
    select
        *,
        coalesce(
            lag(closing_points) over (partition by program_id order by period), 0
        ) as opening_points,
        coalesce(
            lag(point_value_micros) over (partition by program_id order by period),
            point_value_micros
        ) as opening_value_micros
    from points
),

walked as (
    select
        *,
        {{ balances_in_money() }}
    from opened
),

money as (
    select
        *,
        {{ flows_in_money() }}
    from walked
),

allowance as (
    select
        *,
        {{ share_of_money('(accrued_minor - clawed_back_minor)', 'provision_bps') }}
            as provision_minor,
        expired_minor + forfeited_minor as breakage_minor,
        {{ share_of_money('greatest(closing_minor, 0)', 'breakage_bps') }}
            as closing_allowance_minor
    from money
),

allowance_opened as (
    select
        *,
        coalesce(
            lag(closing_allowance_minor) over (partition by program_id order by period), 0
        ) as opening_allowance_minor
    from allowance
)

select
    program_id,
    period,
    currency,
    opening_points,
    {% for flow, account, sign, types in flows %}
    {{ flow }}_points,
    {% endfor %}
    closing_points,
    opening_minor,
    {% for flow, account, sign, types in flows %}
    {{ flow }}_minor,
    {% endfor %}
    closing_minor,
    revalued_minor,
    point_value_micros,
    opening_allowance_minor,
    provision_minor,
    breakage_minor,
    closing_allowance_minor - opening_allowance_minor - provision_minor + breakage_minor
        as reestimate_minor,
    closing_allowance_minor,
    breakage_bps,
    closing_minor - closing_allowance_minor as closing_net_minor,
    version
from allowance_opened
