{#
  Opening and flows are the closing balance, in points and in money, and the next period of the same
  `by` opens with it.
#}
{% test rolls_forward(model, by) %}
with checked as (
    select
        {% for unit in ['points', 'minor'] %}
        closing_{{ unit }},
        opening_{{ unit }}
        {%- for flow, account, sign, types in liability_flows() %}
        {{ '+' if sign > 0 else '-' }} {{ flow }}_{{ unit }}
        {%- endfor %} as expected_{{ unit }},
        lead(opening_{{ unit }}) over (partition by {{ by | join(', ') }} order by period)
            as next_opening_{{ unit }},
        {% endfor %}
        {{ by | join(', ') }},
        period
    from {{ model }}
)

select *
from checked
where
    closing_points <> expected_points
    or closing_minor <> expected_minor
    or next_opening_points <> closing_points
    or next_opening_minor <> closing_minor
{% endtest %}
