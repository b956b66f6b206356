{# Mean from an integer sum and count, as a double; null of nothing. #}
{% macro mean_of_sums(total, count) -%}
    cast({{ total }} as double) / nullif({{ count }}, 0)
{%- endmacro %}


{# Standard deviation of a sample from integer sums: exact up to one division and one root. #}
{% macro stddev_of_sums(squares, total, count) -%}
    sqrt(
        cast(
            {{ squares }} * {{ count }} - cast({{ total }} as {{ wide_integer() }}) * {{ total }}
            as double
        )
        / nullif(cast({{ count }} * ({{ count }} - 1) as double), 0)
    )
{%- endmacro %}


{#
  Rate of `positives` among `count`, drawn towards what is usual where little has been seen: as if
  20 more had been seen at a rate of 0.5 %.
#}
{% macro smoothed_rate(positives, count) -%}
    {%- set prior_count = 20 -%}
    {%- set prior_rate = 0.005 -%}
    (cast({{ positives }} as double) + {{ prior_count }} * cast({{ prior_rate }} as double))
    / nullif(cast({{ count }} as double) + {{ prior_count }}, 0)
{%- endmacro %}


{# What part `over` is of `under` in whole millionths, cut; null of nothing. #}
{% macro millionths(over, under) -%}
    cast(cast({{ over }} as {{ wide_integer() }}) * 1000000 // nullif({{ under }}, 0) as bigint)
{%- endmacro %}


{#
  Slope of a line through the whole numbers `y` at the whole numbers `x` over their mean, as a
  double: of integers, so that it is the same in any order. Null below two, or of a mean of 0.
#}
{% macro relative_slope(x, y) -%}
    {%- set is_given = 'filter (where ' ~ y ~ ' is not null)' -%}
    cast(
        count({{ y }}) * (count({{ y }}) * sum({{ x }} * {{ y }}) - sum({{ x }}) {{ is_given }} * sum({{ y }}))
        as double
    )
    / nullif(
        cast(
            sum({{ y }})
            * (
                count({{ y }}) * sum({{ x }} * {{ x }}) {{ is_given }}
                - sum({{ x }}) {{ is_given }} * sum({{ x }}) {{ is_given }}
            )
            as double
        ), 0
    )
{%- endmacro %}
