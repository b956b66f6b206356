{#
  A count or sum of what a feed delivered with a bureau report: 0 where the report has none of it,
  null as long as the feed had never delivered anything.
#}
{% macro count_since_arrival(feed, column) -%}
    cast(
        case when reports.moment >= arrivals.{{ feed }}_from then coalesce({{ column }}, 0) end
        as bigint
    )
{%- endmacro %}
