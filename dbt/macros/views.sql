{#
  A view whose text has not changed stays as it is: making it anew is a commit of the catalog, and
  most models are views. The text's hash is the view's comment.
#}
{% materialization view, adapter='duckdb' %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='view') -%}
    {%- set hash = local_md5(sql) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is not none and existing.is_view and comment_of_view(target) == hash %}
        {% call noop_statement('main', 'unchanged', 'OK') -%}
        {%- endcall %}
    {%- else %}
        {{ drop_relation_if_exists(existing) }}
        {% call statement('main') -%}
            {{ get_create_view_as_sql(target, sql) }}
        {%- endcall %}
        {% call statement('remember the text') -%}
            comment on view {{ target }} is '{{ hash }}'
        {%- endcall %}
    {%- endif %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target]}) }}
{% endmaterialization %}


{% macro comment_of_view(relation) -%}
    {%- set found = run_query(
        "select comment from duckdb_views() where database_name = '" ~ relation.database
        ~ "' and schema_name = '" ~ relation.schema
        ~ "' and view_name = '" ~ relation.identifier ~ "'"
    ) -%}
    {{ return(found.rows[0][0] if found.rows | length else none) }}
{%- endmacro %}
