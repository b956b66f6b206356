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


{# Rows of `reports` with what a feed had told of each by its moment, as `child`. #}
{% macro as_reported(feed) -%}
    from reports
    inner join {{ feed }} as child
        on
            reports.pull_id = child.pull_id
            and reports.moment >= child.received_at
            and (child.superseded_at is null or reports.moment < child.superseded_at)
{%- endmacro %}


{# A text as JSON, without the signs that JSON would have to escape; null of null. #}
{% macro json_text(text) -%}
    '"' || regexp_replace({{ text }}, '["\\[:cntrl:]]', '', 'g') || '"'
{%- endmacro %}
