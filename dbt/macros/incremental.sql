{#
  How a daily run works on what is new only.

  New are the rows of files that were loaded by an ingest commit after `from_load_no`. A model reads
  the keys that these rows touch and computes those keys from everything that is known of them, so a
  late row or a corrected version gives what a full build gives. Where a key can lose its last row
  (a corrected card, a transaction that no longer posts), what goes is told by
  int_entities__touched, see get_incremental_replace_touched_sql.
#}

{#
  Ingest commits after this one are new; -1: everything is, and every table is replaced whole. Read
  from the environment and only in a run: as a variable it would have dbt parse the whole project
  anew each time that it changes.
#}
{% macro from_load_no() -%}
    {{ return((env_var('CARDLINE_FROM_LOAD_NO', '-1') if execute else '-1') | int) }}
{%- endmacro %}


{# Whether this run adds to a table, rather than building it whole. #}
{% macro is_delta() -%}
    {{ return(from_load_no() >= 0 and is_incremental()) }}
{%- endmacro %}


{#
  Files of ingest commits that this run has to work through. Where they are few they are named, for
  a scan skips what cannot hold them only if it is told before it begins.
#}
{% macro new_files() -%}
    {%- set files = source('landing', 'files') -%}
    {%- set named = env_var('CARDLINE_NEW_FILES', '') if execute else '' -%}
    {%- if named -%}
    {{ quoted(named.split(',')) }}
    {%- else -%}
    select file_id
    from {{ files }}
    where load_no > {{ from_load_no() }}
    {%- endif -%}
{%- endmacro %}


{# In a delta: keeps the keys that have a new row in one of `relations`; otherwise keeps all. #}
{% macro where_key_is_new(key, relations) -%}
    {%- set files = new_files() -%}
    {%- if is_delta() %}
        where {{ key }} in (
            {%- for relation in relations %}
            select {{ key }} from {{ relation }} where file_id in ({{ files }})
            {%- if not loop.last %} union all {% endif -%}
            {%- endfor %}
        )
    {%- endif %}
{%- endmacro %}


{# In a delta: `column` is one of the touched ids of `entity`; otherwise true. #}
{% macro is_touched(column, entity) -%}
    {%- set touched = ref('int_entities__touched') -%}
    {%- if is_delta() -%}
        {{ column }} in (select entity_id from {{ touched }} where entity = '{{ entity }}')
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}


{#
  In a delta: the first day on which something new about an `entity` was known. Where the table
  cannot be referred to, it is looked for beside the relation `beside`.
#}
{% macro first_touched_on(entity, beside=none) -%}
    {%- set touched = touched_entities(beside) if beside else ref('int_entities__touched') -%}
    (select min(changed_on) from {{ touched }} where entity = '{{ entity }}')
{%- endmacro %}


{#
  In a delta: `column` is at or after the first day on which something new about an `entity` was
  known, less `days_before`; otherwise true.
#}
{% macro is_since_touched(column, entity, days_before=0) -%}
    {%- set first_on = first_touched_on(entity) -%}
    {%- if is_delta() -%}
        {{ column }} >= {{ first_on }} - interval '{{ days_before }}' day
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}


{#
  In a build of everything: rows in the order of `column`, so that later runs, which ask for the
  newest, need not read the others.
#}
{% macro in_order_of(column) -%}
    {%- if not is_delta() -%}
        order by {{ column }}
    {%- endif -%}
{%- endmacro %}


{# The table int_entities__touched beside `relation`, where it cannot be referred to. #}
{% macro touched_entities(relation) -%}
    {{ return(api.Relation.create(
        database=relation.database, schema='intermediate', identifier='int_entities__touched'
    )) }}
{%- endmacro %}


{#
  Strategy `replace_touched`: deletes what the touched ids of an entity have in the table, then
  inserts the new rows. `meta.replaces` names the entity, its column here (`key`), and optionally a
  timestamp column (`since`): rows of days that ended before the first change stay. A day's row is
  stamped with the midnight that ends it; where rows are stamped with instants (`is_instant`), one
  at the midnight that begins the first day of change goes too. With `is_wider` the new rows have
  ids besides those touched, and theirs are replaced as well.
#}
{% macro get_incremental_replace_touched_sql(arg_dict) %}
    {%- set target = arg_dict['target_relation'] -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {%- set replaces = config.get('meta')['replaces'] -%}
    {%- set touched = touched_entities(target) -%}
    delete from {{ target }}
    {%- if from_load_no() >= 0 %}
    where {{ replaces['key'] }} in (
        select entity_id from {{ touched }} where entity = '{{ replaces["entity"] }}'
    )
    {%- if 'since' in replaces %}
    and {{ replaces['since'] }} {{ '>=' if replaces.get('is_instant') else '>' }} (
        select cast(min(changed_on) as timestamp) from {{ touched }}
        where entity = '{{ replaces["entity"] }}'
    )
    {%- endif %}
    {%- endif %};
    {%- if from_load_no() >= 0 and replaces.get('is_wider') %}
    delete from {{ target }}
    where {{ replaces['key'] }} in (
        select {{ replaces['key'] }} from {{ arg_dict['temp_relation'] }}
    );
    {%- endif %}
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }};
{% endmacro %}


{#
  Strategy `replace_key`: as delete+insert of `meta.replaces.key`, and does not look for the keys in
  rows that are older (`since`) than all of the new ones: a new row stands in for each that goes.
#}
{% macro get_incremental_replace_key_sql(arg_dict) %}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {%- set replaces = config.get('meta')['replaces'] -%}
    {%- set new = arg_dict['temp_relation'] -%}
    delete from {{ arg_dict['target_relation'] }}
    where {{ replaces['key'] }} in (select {{ replaces['key'] }} from {{ new }})
    and {{ replaces['since'] }} >= (select min({{ replaces['since'] }}) from {{ new }});
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ new }};
{% endmacro %}
