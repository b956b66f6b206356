{#
  Which of several rows with one key is right, and since when we knew.
#}

{#
  Columns that number the versions of a key. Rows of one key with equal content are one version, the
  first that arrived; a version holds until the next one was received (`superseded_at`).

  `relation` is a CTE or relation with the lineage columns; `keys` the key columns.
#}
{% macro versions(relation, keys) -%}
    {%- set key = keys | join(', ') -%}
    {%- set arrival = 'received_at, batch_date, file_id, line_no' -%}
    select
        *,
        row_number() over (partition by {{ key }} order by {{ arrival }}) as version_no,
        min(received_at) over (partition by {{ key }}) as first_received_at,
        lead(received_at) over (partition by {{ key }} order by {{ arrival }}) as superseded_at
    from (
        select *
        from {{ relation }}
        qualify row_number() over (partition by {{ key }}, record_hash order by {{ arrival }}) = 1
    ) as distinct_contents
{%- endmacro %}


{#
  As `versions`, of a whole table in which nearly every key has one row: those go by as they lie, and
  only the others are sorted.
#}
{% macro versions_of_table(relation, key) -%}
    {%- set repeated = 'select ' ~ key ~ ' from ' ~ relation ~ ' group by ' ~ key
        ~ ' having count(*) > 1' -%}
    select
        *,
        cast(1 as bigint) as version_no,
        received_at as first_received_at,
        cast(null as timestamp) as superseded_at
    from {{ relation }}
    where {{ key }} not in ({{ repeated }})
    union all
    {{ versions('(select * from ' ~ relation ~ ' where ' ~ key ~ ' in (' ~ repeated ~ ')) as rows_of_repeated', [key]) }}
{%- endmacro %}


{# The latest version of each key, as `versions` numbers them. #}
{% macro latest_versions(relation, keys) -%}
    select *
    from ({{ versions(relation, keys) }}) as numbered
    where superseded_at is null
{%- endmacro %}


{#
  Slowly changing dimension by known time: each key's state as it was known from `valid_from` until
  `valid_to`. A version that is older (`updated_at`) than one already known changes nothing, nor
  does one that is known already; of several received at once the newest counts.
#}
{% macro known_states(relation, key) -%}
    {%- set newest = 'updated_at desc, batch_date desc, file_id desc, line_no desc' -%}
    select
        *,
        received_at as valid_from,
        lead(received_at) over (partition by {{ key }} order by received_at) as valid_to,
        lead(received_at) over (partition by {{ key }} order by received_at) is null as is_current,
        row_number() over (partition by {{ key }} order by received_at) as version_no
    from (
        select *
        from (
            select *
            from (
                select *
                from {{ relation }}
                qualify row_number() over (
                    partition by {{ key }}, record_hash
                    order by received_at, batch_date, file_id, line_no
                ) = 1
            ) as distinct_contents
            qualify row_number() over (partition by {{ key }}, received_at order by {{ newest }}) = 1
        ) as newest_of_arrival
        qualify updated_at >= coalesce(
            max(updated_at) over (
                partition by {{ key }} order by received_at
                rows between unbounded preceding and 1 preceding
            ),
            updated_at
        )
    ) as never_older
{%- endmacro %}


{#
  `attributes` of each key by the time that they came to be (`updated_at`), as we know it now: from
  `effective_from` until `effective_to`. The first state also holds for everything before it, the
  last for ever: no null, so that a left join on the range stays a hash join.
#}
{% macro effective_states(relation, key, attributes) -%}
    select
        {{ key }},
        {{ attributes | join(', ') }},
        case
            when state_no = 1 then timestamp '0001-01-01 00:00:00'
            else updated_at
        end as effective_from,
        coalesce(
            lead(updated_at) over (partition by {{ key }} order by updated_at),
            timestamp '9999-12-31 00:00:00'
        ) as effective_to
    from (
        select
            *,
            row_number() over (partition by {{ key }} order by updated_at) as state_no
            {%- for attribute in attributes %},
            lag({{ attribute }}) over (partition by {{ key }} order by updated_at)
                as previous_{{ attribute }}
            {%- endfor %}
        from (
            select *
            from {{ relation }}
            qualify row_number() over (
                partition by {{ key }}, updated_at
                order by received_at desc, batch_date desc, file_id desc, line_no desc
            ) = 1
        ) as last_told
    ) as in_order
    where
        state_no = 1
        {%- for attribute in attributes %}
        or {{ attribute }} is distinct from previous_{{ attribute }}
        {%- endfor %}
{%- endmacro %}
