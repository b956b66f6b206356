{#
  Window aggregates as change events, exact at every point in time.

  A contribution is something that counts: a transaction's amount, a label, an application. It has
  the time that it is about (`active_from`), the time from which it counts because it was known by
  then (`known_from`, never before `active_from`), and where it was corrected away, the time from
  which it no longer counts (`known_to`). In a window of W days it counts from `known_from` until
  the earlier of `active_from` + W days and `known_to`.

  So every window value is a running sum of what enters and what leaves. There is one row per
  entity and time at which something enters or leaves; between two rows nothing changes. A row uses
  only what was known at its time, hence late rows, corrections and late labels never change a row
  that stands before they were known, and no entity needs a row on a day without change.

  `relation` has entity_id, active_from, known_from, known_to and the measures' columns.
  `measures` maps a column to the list of its windows in days; the sum over a window of W days is
  called `<column>_<W>d`. Times are of `type`: date (changes at the end of the day) or timestamp.
  Sums are of 64 bits on the way, which takes two thirds of the time of wider ones, but for the
  columns in `wide`.
#}

{% macro window_end(window, type) -%}
    least(
        {{ plus('active_from', window, 'day', type) }},
        coalesce(known_to, cast('9999-12-31' as {{ type }}))
    )
{%- endmacro %}


{% macro window_sums(relation, measures, type, wide=[]) -%}
    {%- set windows = [] -%}
    {%- for column, lengths in measures.items() -%}
        {%- for length in lengths if length not in windows -%}
            {%- do windows.append(length) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set windows = windows | sort -%}
    select
        entity_id,
        changed_at
        {%- for column, lengths in measures.items() -%}
        {%- for length in lengths %},
        sum({{ column }}_{{ length }}d) over (
            partition by entity_id order by changed_at
            rows between unbounded preceding and current row
        ) as {{ column }}_{{ length }}d
        {%- endfor -%}
        {%- endfor %}
    from (
        select
            entity_id,
            changed_at
            {%- for column, lengths in measures.items() -%}
            {%- for length in lengths %},
            cast(
                sum({{ column }}_{{ length }}d)
                as {{ wide_integer() if column in wide else 'bigint' }}
            ) as {{ column }}_{{ length }}d
            {%- endfor -%}
            {%- endfor %}
        from (
            select
                entity_id,
                known_from as changed_at
                {%- for column, lengths in measures.items() -%}
                {%- for length in lengths %},
                case when known_from < {{ window_end(length, type) }} then {{ column }} else 0 end
                    as {{ column }}_{{ length }}d
                {%- endfor -%}
                {%- endfor %}
            from {{ relation }}
            where known_from < {{ window_end(windows | last, type) }}
            {%- for window in windows %}
            union all
            select
                entity_id,
                {{ window_end(window, type) }} as changed_at
                {%- for column, lengths in measures.items() -%}
                {%- for length in lengths %},
                {{ '-' ~ column if length == window else '0' }} as {{ column }}_{{ length }}d
                {%- endfor -%}
                {%- endfor %}
            from {{ relation }}
            where known_from < {{ window_end(window, type) }}
            {%- endfor %}
        ) as edges
        group by entity_id, changed_at
    ) as changes
{%- endmacro %}


{#
  The greatest `column` in a window of `window` days (type date) at the days of `changes`, a
  relation with entity_id and changed_at that has every day on which a contribution enters.

  A maximum cannot be summed. What became known within `prompt_days` of its day and still stands is
  a moving maximum for each lateness; the rest, which is little, is laid out day by day.
#}
{% macro window_maximum(relation, changes, column, window, prompt_days=3) -%}
    select
        entity_id,
        changed_at,
        greatest(
            {%- for lateness in range(prompt_days) %}
            max(prompt_{{ lateness }}) over (
                partition by entity_id order by changed_at
                range between interval '{{ window - 1 - lateness }}' day preceding and current row
            ),
            {%- endfor %}
            late
        ) as {{ column }}_{{ window }}d
    from (
        select
            changes.entity_id,
            changes.changed_at,
            {%- for lateness in range(prompt_days) %}
            prompt.prompt_{{ lateness }},
            {%- endfor %}
            late.late
        from {{ changes }} as changes
        left join (
            select
                entity_id,
                known_from
                {%- for lateness in range(prompt_days) %},
                max(case
                    when known_from = {{ plus('active_from', lateness, 'day', 'date') }}
                        then {{ column }}
                end) as prompt_{{ lateness }}
                {%- endfor %}
            from {{ relation }}
            where
                known_to is null
                and known_from < {{ plus('active_from', [prompt_days, window] | min, 'day', 'date') }}
            group by entity_id, known_from
        ) as prompt
            on changes.entity_id = prompt.entity_id and changes.changed_at = prompt.known_from
        left join (
            select
                entity_id,
                counts_on,
                max({{ column }}) as late
            from (
                select
                    entity_id,
                    {{ column }},
                    {{ each_day('known_from', window_end(window, 'date'), 'counts_on') }}
                from {{ relation }}
                where
                    known_from < {{ window_end(window, 'date') }}
                    and not (
                        known_to is null
                        and known_from < {{ plus('active_from', prompt_days, 'day', 'date') }}
                    )
            ) as laid_out
            group by entity_id, counts_on
        ) as late
            on changes.entity_id = late.entity_id and changes.changed_at = late.counts_on
    ) as daily
{%- endmacro %}


{#
  Velocity and known fraud of an entity, as `window_sums` by day: authorizations that were not
  declined (`approved`) with their `amount`, those that were (`declined`), and of the approved ones
  those held to be third-party fraud by then (`frauds`). `column` of int_authorizations__known is
  the entity's; rows without it are nobody's.
#}
{% macro risk_sums(entity, column) -%}
    with known as (
        select *
        from {{ ref('int_authorizations__known') }}
        where
            {{ column }} is not null
            and {{ is_touched(column, entity) }}
            and {{ is_since_touched('active_from', entity, 90) }}
    ),

    frauds as (
        select *
        from {{ ref('int_fraud_labels__known') }}
        where is_fraud
    ),

    contributions as (
        select
            {{ column }} as entity_id,
            active_from,
            known_from,
            known_to,
            cast(sum(case when is_declined then 0 else 1 end) as bigint) as approved,
            cast(sum(case when is_declined then 0 else amount_minor end) as bigint) as amount,
            cast(sum(case when is_declined then 1 else 0 end) as bigint) as declined,
            0 as frauds
        from known
        group by {{ column }}, active_from, known_from, known_to
        union all
        select
            known.{{ column }} as entity_id,
            known.active_from,
            greatest(known.known_from, frauds.known_from) as known_from,
            least(known.known_to, frauds.known_to) as known_to,
            0 as approved,
            0 as amount,
            0 as declined,
            1 as frauds
        from known
        inner join frauds on known.transaction_id = frauds.transaction_id
        where
            not known.is_declined
            and (known.known_to is null or frauds.known_from < known.known_to)
            and (frauds.known_to is null or known.known_from < frauds.known_to)
    )

    {{ window_sums(
        'contributions',
        {
            'approved': [1, 7, 30, 90],
            'frauds': [1, 7, 30, 90],
            'amount': [1, 7, 30],
            'declined': [1, 7, 30],
        },
        'date'
    ) }}
{%- endmacro %}


{# Of `risk_sums`: transactions, known frauds and their smoothed rate, as select items. #}
{% macro risk_columns(prefix, count='count') -%}
    {%- for days in [1, 7, 30, 90] -%}
    cast(approved_{{ days }}d as bigint) as {{ prefix }}{{ count }}_{{ days }}d,
    cast(frauds_{{ days }}d as bigint) as {{ prefix }}fraud_count_{{ days }}d,
    {{ smoothed_rate('frauds_' ~ days ~ 'd', 'approved_' ~ days ~ 'd') }}
        as {{ prefix }}fraud_rate_{{ days }}d
    {{- ',\n    ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{# Of `risk_sums`: amounts and declined authorizations, as select items. #}
{% macro velocity_columns(prefix) -%}
    {%- for days in [1, 7, 30] -%}
    cast(amount_{{ days }}d as bigint) as {{ prefix }}_amount_{{ days }}d_minor,
    cast(declined_{{ days }}d as bigint) as {{ prefix }}_declined_count_{{ days }}d
    {{- ',\n    ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
