{#
  The business date of an instant: the day in the time zone of the program whose it is, in UTC where
  no program is known. Zones are read from the environment as `from_load_no` is, and come by case:
  DuckDB looks up a zone that is a column anew for every row.
#}
{% macro business_date(moment, program_id) -%}
    {%- set zones = fromjson(env_var('CARDLINE_PROGRAM_ZONES', '{}') if execute else '{}') -%}
    {%- if zones -%}
        case {{ program_id }}
            {%- for program, zone in zones | dictsort %}
            when '{{ program }}'
                then cast(timezone('{{ zone }}', timezone('UTC', {{ moment }})) as date)
            {%- endfor %}
            else cast({{ moment }} as date)
        end
    {%- else -%}
        cast({{ moment }} as date)
    {%- endif -%}
{%- endmacro %}
