{# A list of texts as SQL literals. #}
{% macro quoted(values) -%}
    '{{ values | join("', '") }}'
{%- endmacro %}
