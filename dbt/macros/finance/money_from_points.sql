{#
  Minor units that `points` are worth at `value_micros` millionths of a minor unit each.

  The one rounding between points and money in the finance models: half away from zero, in
  integers (128 bits between), so that the same balance is worth the same money everywhere. The
  function never falls when the points rise, hence a flow in money never has the other sign than
  its points.
#}
{% macro money_from_points(points, value_micros) -%}
    {{ return(adapter.dispatch('money_from_points')(points, value_micros)) }}
{%- endmacro %}

{% macro default__money_from_points(points, value_micros) -%}
    cast(
        case when {{ points }} < 0 then -1 else 1 end
        * (
            (2 * cast(abs({{ points }}) as hugeint) * {{ value_micros }} + 1000000) // 2000000
        ) as bigint
    )
{%- endmacro %}

{% macro spark__money_from_points(points, value_micros) -%}
    cast(
        case when {{ points }} < 0 then -1 else 1 end
        * (
            (2 * cast(abs({{ points }}) as decimal(38, 0)) * {{ value_micros }} + 1000000)
            div 2000000
        ) as bigint
    )
{%- endmacro %}


{#
  `bps` ten-thousandths of `amount_minor`, rounded half away from zero.
#}
{% macro share_of_money(amount_minor, bps) -%}
    {{ money_from_points(amount_minor, '(100 * ' ~ bps ~ ')') }}
{%- endmacro %}
