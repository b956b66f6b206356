{#
  Schemas are literally staging, intermediate, marts, features, finance, risk: alike in every home.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
