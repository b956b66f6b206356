{#
  What data tests look at in a daily run: what was written since they last passed, so that the tests
  of a day cost a day. A table of an incremental model tells it by DuckLake's snapshots, a view by
  the files or the transactions of the run. A view whose rows follow from tables that are tested
  themselves (`meta.is_tested_by_its_sources`) is tested by full builds only, for reading it costs
  its history. Anything else is tested whole, and so is all of it by a full build.
#}

{# The snapshot of the lake on which all data tests passed; -1: there is none to rely on. #}
{% macro tested_snapshot() -%}
    {{ return((env_var('CARDLINE_TESTED_SNAPSHOT', '-1') if execute else '-1') | int) }}
{%- endmacro %}


{# The rows of `relation` that were written since the tests last passed, as a relation. #}
{% macro written_rows(relation) -%}
    {%- if not execute or from_load_no() < 0 or tested_snapshot() < 0 -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- set nodes = graph.nodes.values()
        | selectattr('resource_type', 'equalto', 'model')
        | selectattr('schema', 'equalto', relation.schema)
        | selectattr('alias', 'equalto', relation.identifier) | list -%}
    {%- set node = nodes | first -%}
    {%- set kind = node.config.materialized if node else 'none' -%}
    {%- if kind == 'incremental' -%}
        {%- set newest = run_query('select max(snapshot_id) from ducklake_snapshots(\'lake\')') -%}
        {%- set newest = newest.rows[0][0] -%}
        {%- if newest > tested_snapshot() -%}
            {{ return(
                "(select * from ducklake_table_insertions('" ~ relation.database ~ "', '"
                ~ relation.schema ~ "', '" ~ relation.identifier ~ "', "
                ~ (tested_snapshot() + 1) ~ ", " ~ newest ~ "))"
            ) }}
        {%- endif -%}
        {{ return("(select * from " ~ relation ~ " where false)") }}
    {%- elif kind == 'view' and node.config.meta.get('is_tested_by_its_sources') -%}
        {{ return("(select * from " ~ relation ~ " where false)") }}
    {%- elif kind == 'view' and 'file_id' in node.columns -%}
        {{ return("(select * from " ~ relation ~ " where file_id in (" ~ new_files() ~ "))") }}
    {%- elif kind == 'view' and 'transaction_id' in node.columns and 'event_at' in node.columns -%}
        {{ return(
            "(select * from " ~ relation ~ " where transaction_id in (select entity_id from "
            ~ touched_entities(relation) ~ " where entity = 'transaction') and event_at >= "
            ~ "(select min(changed_on) from " ~ touched_entities(relation)
            ~ " where entity = 'transaction'))"
        ) }}
    {%- endif -%}
    {{ return(relation) }}
{%- endmacro %}


{# All rows of `relation` that share `columns` with one that was written since. #}
{% macro rows_beside_written(relation, columns) -%}
    {%- set written = written_rows(relation) -%}
    {%- if written == relation -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- set key = columns | join(', ') -%}
    {{ return(
        "(select * from " ~ relation ~ " where (" ~ key ~ ") in (select (" ~ key ~ ") from "
        ~ written ~ " as written))"
    ) }}
{%- endmacro %}


{# dbt asks this what its generic tests read. #}
{% macro get_where_subquery(relation) -%}
    {%- set asked = model.test_metadata if execute and model.test_metadata else none -%}
    {%- set where = config.get('where', '') -%}
    {%- if asked is none -%}
        {%- set rows = relation -%}
    {%- elif asked.name == 'unique' -%}
        {%- set rows = rows_beside_written(relation, [asked.kwargs.column_name]) -%}
    {%- elif asked.name == 'is_unique_together' -%}
        {%- set rows = rows_beside_written(relation, asked.kwargs.columns) -%}
    {%- else -%}
        {%- set rows = written_rows(relation) -%}
    {%- endif -%}
    {%- if rows == relation and not where -%}
        {{ return(relation) }}
    {%- endif -%}
    {{ return('(select * from ' ~ rows ~ ' where ' ~ (where or 'true') ~ ') as tested') }}
{%- endmacro %}
