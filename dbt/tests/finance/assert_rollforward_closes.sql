-- Opening and flows are the closing balance, in points and in money, and the next period opens
-- with it; so does the part of each share of funding. The closing balance comes from the members'
-- accounts, the flows from the other side.

with told as (
    select
        program_id || ' in all' as series,
        period,
        opening_points,
        opening_minor,
        {% for flow, account, sign, types in liability_flows() %}
        {{ flow }}_points,
        {{ flow }}_minor,
        {% endfor %}
        closing_points,
        closing_minor
    from {{ ref('liability_rollforward') }}
    union all
    select
        program_id || ' of ' || funding_partner_bps as series,
        period,
        opening_points,
        opening_minor,
        {% for flow, account, sign, types in liability_flows() %}
        {{ flow }}_points,
        {{ flow }}_minor,
        {% endfor %}
        closing_points,
        closing_minor
    from {{ ref('liability_by_funding') }}
),

checked as (
    select
        {% for unit in ['points', 'minor'] %}
        closing_{{ unit }},
        opening_{{ unit }}
        {%- for flow, account, sign, types in liability_flows() %}
        {{ '+' if sign > 0 else '-' }} {{ flow }}_{{ unit }}
        {%- endfor %} as expected_{{ unit }},
        lead(opening_{{ unit }}) over (partition by series order by period)
            as next_opening_{{ unit }},
        {% endfor %}
        series,
        period
    from told
),

allowances as (
    select
        *,
        opening_allowance_minor + provision_minor - breakage_minor + reestimate_minor
            as expected_allowance_minor,
        lead(opening_allowance_minor) over (partition by program_id order by period)
            as next_opening_allowance_minor
    from {{ ref('liability_rollforward') }}
)

select
    series,
    period
from checked
where
    closing_points <> expected_points
    or closing_minor <> expected_minor
    or next_opening_points <> closing_points
    or next_opening_minor <> closing_minor
union all
select
    program_id || ' allowance' as series,
    period
from allowances
where
    closing_allowance_minor <> expected_allowance_minor
    or next_opening_allowance_minor <> closing_allowance_minor
