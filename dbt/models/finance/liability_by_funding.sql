-- One row per program, period and partner's share of the points (funding_partner_bps): the
-- roll-forward of the program told by who pays for what is open, from the lots that entries opened
-- and took from. The rows of a program and period add up to its roll-forward, in points and money.
--
-- Points of lots that a partner has a share in are added up and valued by themselves. The row of
-- the issuer's own (0) has all the rest: its lots, members' debts, what a return policy left.
{{ config(tags=['finance']) }}

{% set flows = liability_flows() %}
{% set parts = ['opening'] + (flows | map('first') | list) + ['closing'] %}

with rollforward as (
    select * from {{ ref('liability_rollforward') }}
),

legs as (
    select
        journal.program_id,
        journal.accounting_period as period,
        lots.funding_partner_bps,
        journal.event_type,
        case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end
            as points
    from {{ source('rewards_ledger', 'postings') }} as postings
    inner join {{ source('rewards_ledger', 'lots_issued') }} as lots
        on postings.lot_id = lots.lot_id
    inner join {{ source('rewards_ledger', 'journal') }} as journal
        on postings.journal_id = journal.journal_id
    where
        lots.funding_partner_bps > 0
        and postings.ledger_account in ({{ quoted(liability_accounts()) }})
),

shares as (
    select distinct
        program_id,
        funding_partner_bps
    from legs
),

movements as (
    select
        program_id,
        period,
        funding_partner_bps,
        {% for flow, account, sign, types in flows %}
        coalesce(
            sum({{ sign }} * points) filter (where event_type in ({{ quoted(types) }})), 0
        ) as {{ flow }}_points,
        {% endfor %}
        sum(points) as change_points
    from legs
    group by program_id, period, funding_partner_bps
),

points as (
    select
        rollforward.program_id,
        rollforward.period,
        rollforward.currency,
        rollforward.point_value_micros,
        rollforward.version,
        shares.funding_partner_bps,
        {% for flow, account, sign, types in flows %}
        cast(coalesce(movements.{{ flow }}_points, 0) as bigint) as {{ flow }}_points,
        {% endfor %}
        cast(
            sum(coalesce(movements.change_points, 0)) over (
                partition by rollforward.program_id, shares.funding_partner_bps
                order by rollforward.period
            ) as bigint
        ) as closing_points
    from rollforward
    inner join shares on rollforward.program_id = shares.program_id
    left join movements
        on
            rollforward.program_id = movements.program_id
            and rollforward.period = movements.period
            and shares.funding_partner_bps = movements.funding_partner_bps
),

opened as (
    select
        *,
        coalesce(
            lag(closing_points) over (
                partition by program_id, funding_partner_bps order by period
            ), 0
        ) as opening_points,
        coalesce(
            lag(point_value_micros) over (
                partition by program_id, funding_partner_bps order by period
            ), point_value_micros
        ) as opening_value_micros
    from points
),

walked as (
    select
        *,
        {{ balances_in_money() }}
    from opened
),

funded as (
    select
        *,
        {{ flows_in_money() }}
    from walked
),

told as (
    select
        {% for part in parts %}
        sum({{ part }}_points) as {{ part }}_points,
        sum({{ part }}_minor) as {{ part }}_minor,
        {% endfor %}
        program_id,
        period
    from funded
    group by program_id, period
),

issued as (
    select
        rollforward.program_id,
        rollforward.period,
        rollforward.currency,
        rollforward.version,
        {% for part in parts %}
        rollforward.{{ part }}_points - coalesce(told.{{ part }}_points, 0) as {{ part }}_points,
        rollforward.{{ part }}_minor - coalesce(told.{{ part }}_minor, 0) as {{ part }}_minor,
        {% endfor %}
        0 as funding_partner_bps
    from rollforward
    left join told
        on rollforward.program_id = told.program_id and rollforward.period = told.period
),

every_row as (
    {% for name in ['funded', 'issued'] %}
    select
        {% for part in parts %}
        {{ part }}_points,
        {{ part }}_minor,
        {% endfor %}
        program_id,
        period,
        funding_partner_bps,
        currency,
        version
    from {{ name }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select
    program_id || ':' || period || ':' || funding_partner_bps as funding_line_id,
    program_id,
    period,
    cast(funding_partner_bps as bigint) as funding_partner_bps,
    currency,
    {% for part in parts %}
    cast({{ part }}_points as bigint) as {{ part }}_points,
    {% endfor %}
    {% for part in parts %}
    cast({{ part }}_minor as bigint) as {{ part }}_minor,
    {% endfor %}
    {{ share_of_money('closing_minor', 'funding_partner_bps') }} as closing_partner_minor,
    version
from every_row
