{#
  The words of one engine. Everything else in the models is read alike by DuckDB and Spark.
#}

{# An integer wide enough for sums of squares of minor units. #}
{% macro wide_integer() -%}
    {{ return(adapter.dispatch('wide_integer')()) }}
{%- endmacro %}

{% macro default__wide_integer() -%}
    hugeint
{%- endmacro %}

{% macro spark__wide_integer() -%}
    decimal(38, 0)
{%- endmacro %}


{#
  An authorization as one number, so that one sum over a window is three: how many were approved
  and how many declined (each below 2^31), and the amount of the approved ones (below 2^63).
#}
{% macro volume() -%}
    {{ return(adapter.dispatch('volume')()) }}
{%- endmacro %}

{% macro default__volume() -%}
    case
        when is_declined then 9223372036854775808
        else 39614081257132168796771975168 + amount_minor
    end
{%- endmacro %}

{% macro spark__volume() -%}
    case
        when is_declined then cast(10000000000000000000 as decimal(38, 0))
        else cast(10000000000000000000000000000 + amount_minor as decimal(38, 0))
    end
{%- endmacro %}


{# Of a sum of volumes: how many were approved. #}
{% macro approved_of(volume) -%}
    {{ return(adapter.dispatch('approved_of')(volume)) }}
{%- endmacro %}

{% macro default__approved_of(volume) -%}
    cast({{ volume }} >> 95 as bigint)
{%- endmacro %}

{% macro spark__approved_of(volume) -%}
    ({{ volume }} div 10000000000000000000000000000)
{%- endmacro %}


{# Of a sum of volumes: how many were declined. #}
{% macro declined_of(volume) -%}
    {{ return(adapter.dispatch('declined_of')(volume)) }}
{%- endmacro %}

{% macro default__declined_of(volume) -%}
    cast(({{ volume }} >> 63) & 4294967295 as bigint)
{%- endmacro %}

{% macro spark__declined_of(volume) -%}
    (({{ volume }} % 10000000000000000000000000000) div 10000000000000000000)
{%- endmacro %}


{# Of a sum of volumes: the amount of those that were approved. #}
{% macro amount_of(volume) -%}
    {{ return(adapter.dispatch('amount_of')(volume)) }}
{%- endmacro %}

{% macro default__amount_of(volume) -%}
    cast({{ volume }} & 9223372036854775807 as bigint)
{%- endmacro %}

{% macro spark__amount_of(volume) -%}
    cast({{ volume }} % 10000000000000000000 as bigint)
{%- endmacro %}


{#
  Up to three counts, each below 2^20, as one number, so that one sum over a window is three: what
  one of the count at `position` is worth.
#}
{% macro packed_unit(position) -%}
    cast({{ 2097152 ** position }} as bigint)
{%- endmacro %}


{# Of a sum of packed units: the count at `position`. #}
{% macro unpacked_count(packed, position) -%}
    {{ return(adapter.dispatch('unpacked_count')(packed, position)) }}
{%- endmacro %}

{% macro default__unpacked_count(packed, position) -%}
    (({{ packed }} >> {{ 21 * position }}) & 2097151)
{%- endmacro %}

{% macro spark__unpacked_count(packed, position) -%}
    (shiftright({{ packed }}, {{ 21 * position }}) & 2097151)
{%- endmacro %}


{# Whole months from one date to a later one: 31 January to 28 February is none. #}
{% macro full_months(start_on, end_on) -%}
    {{ return(adapter.dispatch('full_months')(start_on, end_on)) }}
{%- endmacro %}

{% macro default__full_months(start_on, end_on) -%}
    datesub('month', {{ start_on }}, {{ end_on }})
{%- endmacro %}

{% macro spark__full_months(start_on, end_on) -%}
    cast(months_between({{ end_on }}, {{ start_on }}) as bigint)
{%- endmacro %}


{# Whole days from one timestamp to a later one. #}
{% macro full_days(start_at, end_at) -%}
    {{ return(adapter.dispatch('full_days')(start_at, end_at)) }}
{%- endmacro %}

{% macro default__full_days(start_at, end_at) -%}
    datesub('day', {{ start_at }}, {{ end_at }})
{%- endmacro %}

{% macro spark__full_days(start_at, end_at) -%}
    timestampdiff(day, {{ start_at }}, {{ end_at }})
{%- endmacro %}


{# `column` plus `count` of `unit`, as `type`: a date stays a date. #}
{% macro plus(column, count, unit, type) -%}
    cast({{ column }} + interval '{{ count }}' {{ unit }} as {{ type }})
{%- endmacro %}


{# Midnight that ends the day of `column`. #}
{% macro midnight_after(column) -%}
    cast(cast({{ column }} as date) + interval '1' day as timestamp)
{%- endmacro %}


{# One row per day from `start_on` to the day before `end_on`, as the select item `alias`. #}
{% macro each_day(start_on, end_on, alias) -%}
    {{ return(adapter.dispatch('each_day')(start_on, end_on, alias)) }}
{%- endmacro %}

{% macro default__each_day(start_on, end_on, alias) -%}
    cast(unnest(range({{ start_on }}, {{ end_on }}, interval '1' day)) as date) as {{ alias }}
{%- endmacro %}

{% macro spark__each_day(start_on, end_on, alias) -%}
    explode(sequence({{ start_on }}, {{ end_on }} - interval '1' day, interval '1' day))
        as {{ alias }}
{%- endmacro %}


{# How many characters of `text` are in the class `characters` (`3-6A`). #}
{% macro count_of_characters(text, characters) -%}
    {{ return(adapter.dispatch('count_of_characters')(text, characters)) }}
{%- endmacro %}

{% macro default__count_of_characters(text, characters) -%}
    length(regexp_replace({{ text }}, '[^{{ characters }}]', '', 'g'))
{%- endmacro %}

{% macro spark__count_of_characters(text, characters) -%}
    length(regexp_replace({{ text }}, '[^{{ characters }}]', ''))
{%- endmacro %}


{# How many characters stand before the first one that is in the class `characters`. #}
{% macro count_before_characters(text, characters) -%}
    length(regexp_extract({{ text }}, '^[^{{ characters }}]*', 0))
{%- endmacro %}


{# A timestamp as microseconds since 1970. #}
{% macro microseconds(column) -%}
    {{ return(adapter.dispatch('microseconds')(column)) }}
{%- endmacro %}

{% macro default__microseconds(column) -%}
    epoch_us({{ column }})
{%- endmacro %}

{% macro spark__microseconds(column) -%}
    unix_micros({{ column }})
{%- endmacro %}


{#
  The texts of `column` in `days` of a window by time and by it, joined by spaces: of a row and of as
  many rows before it as the column `earlier` tells.
#}
{% macro last_texts(column, earlier, by_time, days=1) -%}
    {{ return(adapter.dispatch('last_texts')(column, earlier, by_time, days)) }}
{%- endmacro %}

{% macro default__last_texts(column, earlier, by_time, days) -%}
    coalesce(string_agg({{ column }}, ' ') over (
        {{ by_time }}, {{ column }} rows between {{ earlier }} preceding and current row
    ), '')
{%- endmacro %}

{% macro spark__last_texts(column, earlier, by_time, days) -%}
    array_join(
        slice(
            array_sort(collect_list({{ column }}) over (
                {{ by_time }} range between interval '{{ days }}' day preceding and current row
            )),
            -({{ earlier }} + 1),
            {{ earlier }} + 1
        ),
        ' '
    )
{%- endmacro %}


{#
  The texts of `column` in a window, joined by the unit separator in the order of the window: the
  last `count` of them.
#}
{% macro last_joined(column, count, window) -%}
    {{ return(adapter.dispatch('last_joined')(column, count, window)) }}
{%- endmacro %}

{% macro default__last_joined(column, count, window) -%}
    coalesce(array_to_string(
        list_slice(
            list({{ column }}) filter (where {{ column }} is not null) over ({{ window }}),
            -{{ count }}, -1
        ),
        chr(31)
    ), '')
{%- endmacro %}

{% macro spark__last_joined(column, count, window) -%}
    array_join(
        reverse(slice(reverse(collect_list({{ column }}) over ({{ window }})), 1, {{ count }})),
        chr(31)
    )
{%- endmacro %}


{# The last value of `column` in a window that is not null. #}
{% macro last_known(column, window) -%}
    {{ return(adapter.dispatch('last_known')(column, window)) }}
{%- endmacro %}

{% macro default__last_known(column, window) -%}
    last_value({{ column }} ignore nulls) over ({{ window }})
{%- endmacro %}

{% macro spark__last_known(column, window) -%}
    last_value({{ column }}, true) over ({{ window }})
{%- endmacro %}


{# The texts of `column` in a group, sorted and joined by commas; null where there is none. #}
{% macro sorted_texts(column) -%}
    {{ return(adapter.dispatch('sorted_texts')(column)) }}
{%- endmacro %}

{% macro default__sorted_texts(column) -%}
    string_agg({{ column }}, ',' order by {{ column }})
{%- endmacro %}

{% macro spark__sorted_texts(column) -%}
    nullif(array_join(array_sort(collect_list({{ column }})), ','), '')
{%- endmacro %}


{# One key of two, which no other two have. #}
{% macro pair_key(first, second) -%}
    length({{ first }}) || ':' || {{ first }} || {{ second }}
{%- endmacro %}
