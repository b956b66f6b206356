{#
  What data tests look at in a daily run: what was written since they last passed, so that the tests
  of a day cost a day. A table of an incremental model tells it by DuckLake's snapshots, a view by
  the files or the transactions (`meta.is_of_transactions`) of the run. A view whose rows follow
  from tables that are tested themselves (`meta.is_tested_by_its_sources`) is tested by full builds
  only, for reading it costs its history. Anything else is tested whole, and so is all of it by a
  full build.
#}

{# The snapshot of the lake on which all data tests passed; -1: there is none to rely on. #}
{% macro tested_snapshot() -%}
    {{ return((env_var('CARDLINE_TESTED_SNAPSHOT', '-1') if execute else '-1') | int) }}
{%- endmacro %}


{# The model that makes `relation`; none where none does. #}
{% macro model_of(relation) -%}
    {{ return(
        graph.nodes.values()
        | selectattr('resource_type', 'equalto', 'model')
        | selectattr('schema', 'equalto', relation.schema)
        | selectattr('alias', 'equalto', relation.identifier) | first
    ) }}
{%- endmacro %}


{# The rows of `relation` that were written since the tests last passed, as a relation. #}
{% macro written_rows(relation) -%}
    {%- if not execute or from_load_no() < 0 or tested_snapshot() < 0 -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- set node = model_of(relation) -%}
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
    {%- elif kind == 'view' and node.config.meta.get('is_of_transactions') -%}
        {{ return(
            "(select * from " ~ relation ~ " where transaction_id in (select entity_id from "
            ~ touched_entities(relation) ~ " where entity = 'transaction') and event_at >= "
            ~ first_touched_on('transaction', relation) ~ ")"
        ) }}
    {%- endif -%}
    {{ return(relation) }}
{%- endmacro %}


{#
  All rows of `relation` that share `columns` with one that was written since. A join column by
  column lets a scan skip what is out of the written rows' range, as in a tuple of them it cannot;
  rows with a null in `columns` are left to full builds.
  In a view with `meta.is_of_transactions` no row of a touched transaction is older than the first
  day of change: for that every version of every message counts, and these are tested throughout.
#}
{% macro rows_beside_written(relation, columns) -%}
    {%- set written = written_rows(relation) -%}
    {%- if written == relation -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- set key = columns | join(', ') -%}
    {%- set since = " where event_at >= " ~ first_touched_on('transaction', relation)
        if model_of(relation).config.meta.get('is_of_transactions') else "" -%}
    {{ return(
        "(select * from (select * from " ~ relation ~ since ~ ") as looked_at semi join (select "
        ~ key ~ " from " ~ written ~ " as inserted) as written using (" ~ key ~ "))"
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
