{#
  Window aggregates as change events, exact at every point in time.

  A contribution is something that counts: a transaction's amount, a label, an application. It has
  the time that it is about (`active_from`), the time from which it counts because it was known by
  then (`known_from`, never before `active_from`), and where it was corrected away, the time from
  which it no longer counts (`known_to`). In a window of W days it counts from `known_from` until
  the earlier of `active_from` + W days and `known_to`.

  There is one row per entity and time at which something enters or leaves a window; between two
  rows nothing changes. A row uses only what was known at its time, hence late rows, corrections
  and late labels never change a row that stands before they were known, and no entity needs a row
  on a day without change.

  `relation` has entity_id, active_from, known_from, known_to and the measures' columns.
  `measures` maps a column to the list of its windows in days; the sum over a window of W days is
  called `<column>_<W>d`.
#}

{% macro window_end(window, type) -%}
    least(
        {{ plus('active_from', window, 'day', type) }},
        coalesce(known_to, cast('9999-12-31' as {{ type }}))
    )
{%- endmacro %}


{#
  Windows that change at instants, or with `type` 'date' at the ends of days. Every value is a
  running sum of what enters and what leaves, of 64 bits but for the columns in `wide`, which suits
  entities of which little is heard.
#}
{% macro window_sums(relation, measures, type='timestamp', wide=[]) -%}
    {%- set windows = measures.values() | sum(start=[]) | unique | sort -%}
    select
        entity_id,
        changed_at
        {%- for column, lengths in measures.items() -%}
        {%- for length in lengths %},
        cast(
            sum({{ column }}_{{ length }}d) over (
                partition by entity_id order by changed_at
                rows between unbounded preceding and current row
            ) as {{ wide_integer() if column in wide else 'bigint' }}
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
                sum({{ column }}_{{ length }}d) as {{ wide_integer() if column in wide else 'bigint' }}
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
  Windows that change at the ends of days: times are dates, and a window of W days ends with the
  day of the row. Sums are of 64 bits but for the columns in `wide`; `maximum` is a column and its
  window, as `<column>_<W>d`, null of nothing. Columns in `sparse` are of contributions that all
  have a `known_to`. `distinct` is a relation of `distinct_changes` over the same contributions and
  its days, for the packed counts `distinct_1d` and `distinct_<W>d`.

  Laid on a calendar without gaps, a window is a frame of rows on the day of occurrence: of a sum, by
  how much it rose since as many rows before. That is right for what was known on its day and never
  corrected, which is nearly all. What was known a
  day later is taken back on its day. The rest, which was known later still or ended to count,
  enters and leaves as in `window_sums`, and is added as it stood last. A maximum cannot leave: of
  the rest, that is told day by day.
#}
{% macro daily_windows(relation, measures, wide=[], sparse=[], maximum=none, distinct=none) -%}
    {%- set windows = measures.values() | sum(start=[]) | unique | sort -%}
    {%- set longest = windows | last -%}
    {%- set in_frames = measures.keys() | reject('in', sparse) | list -%}
    {%- set next_day = plus('active_from', 1, 'day', 'date') -%}
    {%- set is_prompt = 'known_to is null and known_from <= ' ~ next_day -%}
    {%- set by_day = 'partition by entity_id order by changed_at' -%}
    {%- set so_far = by_day ~ ' rows between unbounded preceding and current row' -%}
    with prompt_days as (
        select
            entity_id,
            active_from as changed_at,
            max(case when known_from = active_from then 1 else 0 end) as is_same_day
            {%- for column in in_frames %}
            {%- set type = wide_integer() if column in wide else 'bigint' %},
            cast(sum({{ column }}) as {{ type }}) as {{ column }},
            cast(sum(case when known_from = active_from then 0 else {{ column }} end) as {{ type }})
                as {{ column }}_pending
            {%- endfor %}
            {%- if maximum %},
            max(case when known_from = active_from then {{ maximum[0] }} end)
                as same_day_{{ maximum[0] }},
            max({{ maximum[0] }}) as {{ maximum[0] }}
            {%- endif %}
        from {{ relation }}
        where {{ is_prompt }}
        group by entity_id, active_from
    ),

    rest as (
        select
            entity_id,
            active_from,
            known_from,
            known_to
            {%- for column in measures %},
            cast(sum({{ column }}) as {{ wide_integer() if column in wide else 'bigint' }})
                as {{ column }}
            {%- endfor %}
            {%- if maximum %},
            max({{ maximum[0] }}) as {{ maximum[0] }}
            {%- endif %}
        from {{ relation }}
        where not ({{ is_prompt }}) and known_from < {{ window_end(longest, 'date') }}
        group by entity_id, active_from, known_from, known_to
    ),

    rest_sums as (
        {{ window_sums('rest', measures, type='date', wide=wide) }}
    ),

    -- The days on which a frame begins to have something, or the sums of the rest change.
    news as (
        select
            coalesce(prompt_days.entity_id, rest_sums.entity_id) as entity_id,
            coalesce(prompt_days.changed_at, rest_sums.changed_at) as changed_at,
            prompt_days.changed_at as prompt_on,
            rest_sums.changed_at as rest_on,
            case when rest_sums.changed_at is null then is_same_day else 1 end as is_change
            {%- for column in in_frames %},
            {{ column }},
            {{ column }}_pending
            {%- endfor %}
            {%- if maximum %},
            same_day_{{ maximum[0] }},
            {{ maximum[0] }}
            {%- endif %}
        from prompt_days
        full join rest_sums
            on
                prompt_days.entity_id = rest_sums.entity_id
                and prompt_days.changed_at = rest_sums.changed_at
    ),

    -- Each stands for the days up to the next, at most until all frames are empty.
    calendar as (
        select
            *,
            {{ each_day(
                'changed_at',
                'greatest(' ~ plus('changed_at', 1, 'day', 'date') ~ ', least(next_at, '
                ~ plus('last_prompt_on', longest + 1, 'day', 'date') ~ '))',
                'on_day'
            ) }}
        from (
            select
                *,
                lead(changed_at, 1, date '9999-12-31') over ({{ by_day }}) as next_at,
                coalesce(max(prompt_on) over ({{ so_far }}), date '0001-01-01') as last_prompt_on,
                max(rest_on) over ({{ so_far }}) as last_rest_on
                {%- for column in in_frames %},
                cast(
                    coalesce(sum({{ column }}) over ({{ so_far }}), 0)
                    as {{ wide_integer() if column in wide else 'bigint' }}
                ) as {{ column }}_so_far
                {%- endfor %}
            from news
        ) as in_order
    ),

    days as (
        select
            calendar.entity_id,
            calendar.on_day as changed_at,
            calendar.last_rest_on,
            case when on_day = calendar.changed_at then is_change else 0 end as is_change,
            case when on_day = prompt_on then 1 else 0 end as is_prompt
            {%- if distinct %},
            coalesce({{ distinct[0] }}.of_day, 0) as distinct_1d,
            coalesce({{ distinct[0] }}.change, 0) as distinct_change
            {%- endif %}
            {%- for column in in_frames %},
            {{ column }}_so_far,
            case when on_day = prompt_on then {{ column }}_pending else 0 end as {{ column }}_pending
            {%- endfor %}
            {%- if maximum %},
            case when on_day = prompt_on then same_day_{{ maximum[0] }} end
                as same_day_{{ maximum[0] }},
            case when on_day = prompt_on then {{ maximum[0] }} end as {{ maximum[0] }}
            {%- endif %}
        from calendar
        {%- if distinct %}
        left join {{ distinct[0] }}
            on
                calendar.entity_id = {{ distinct[0] }}.entity_id
                and calendar.on_day = {{ distinct[0] }}.changed_at
        {%- endif %}
    ),

    moving as (
        select
            entity_id,
            changed_at,
            last_rest_on,
            is_change
            {%- for window in windows %}
            + lag(is_prompt, {{ window }}, 0) over ({{ by_day }})
            {%- endfor %} as changes
            {%- if distinct %},
            distinct_1d,
            cast(sum(distinct_change) over ({{ so_far }}) as bigint) as distinct_{{ distinct[1] }}d
            {%- endif %}
            {%- for column in in_frames %}
            {%- for length in measures[column] %},
            {{ column }}_so_far - lag({{ column }}_so_far, {{ length }}, 0) over ({{ by_day }})
            - {{ column }}_pending as {{ column }}_{{ length }}d
            {%- endfor %}
            {%- endfor %}
            {%- if maximum %},
            greatest(
                same_day_{{ maximum[0] }},
                max({{ maximum[0] }}) over (
                    {{ by_day }} rows between {{ maximum[1] - 1 }} preceding and 1 preceding
                )
            ) as {{ maximum[0] }}
            {%- endif %}
        from days
    )
    {%- if maximum %},

    rest_maxima as (
        select
            entity_id,
            changed_at,
            max({{ maximum[0] }}) as {{ maximum[0] }}
        from (
            select
                entity_id,
                {{ maximum[0] }},
                {{ each_day('known_from', window_end(maximum[1], 'date'), 'changed_at') }}
            from rest
            where known_from < {{ window_end(maximum[1], 'date') }}
        ) as each_day
        group by entity_id, changed_at
    )
    {%- endif %}

    select
        moving.entity_id,
        moving.changed_at
        {%- for column, lengths in measures.items() %}
        {%- for length in lengths %},
        {%- set name = column ~ '_' ~ length ~ 'd' %}
        {{ 'moving.' ~ name ~ ' + ' if column in in_frames }}
        {{- 'coalesce(rest_sums.' ~ name ~ ', 0)' }} as {{ name }}
        {%- endfor %}
        {%- endfor %}
        {%- if maximum %},
        greatest(moving.{{ maximum[0] }}, rest_maxima.{{ maximum[0] }})
            as {{ maximum[0] }}_{{ maximum[1] }}d
        {%- endif %}
        {%- if distinct %},
        moving.distinct_1d,
        moving.distinct_{{ distinct[1] }}d
        {%- endif %}
    from moving
    left join rest_sums
        on
            moving.entity_id = rest_sums.entity_id
            and moving.last_rest_on = rest_sums.changed_at
    {%- if maximum %}
    left join rest_maxima
        on
            moving.entity_id = rest_maxima.entity_id
            and moving.changed_at = rest_maxima.changed_at
    {%- endif %}
    where moving.changes > 0
{%- endmacro %}


{#
  How many different values of `columns` (of `relation`; a null is no value) stand in a window of one
  day and in one of `days`: entity_id, changed_at, the count of the one (`of_day`) and by how much
  the count of the other rises (`change`). Both are packed: of all columns in one number, for
  `unpacked_count` to tell.

  The contributions of one value overlap. It counts from where none covers the day before, until
  where none goes on, so that it counts once, whatever of it came late or was corrected.
#}
{% macro distinct_changes(relation, columns, days) -%}
    {%- set in_order = 'partition by entity_id, unit, item order by known_from, is_late' -%}
    {%- set before_all = "date '0001-01-01'" -%}
    with named as (
        {%- for column in columns %}
        {{ 'union all' if not loop.first }}
        select
            entity_id,
            {{ packed_unit(loop.index0) }} as unit,
            {{ column }} as item,
            known_from,
            case when known_from = active_from then 0 else 1 end as is_late,
            {{ window_end(days, 'date') }} as counted_to
        from {{ relation }}
        where {{ column }} is not null and known_from < {{ window_end(days, 'date') }}
        {%- endfor %}
    ),

    -- Until when the value counts by what was known before each row, and with it.
    covered as (
        select
            entity_id,
            unit,
            known_from,
            counted_to,
            coalesce(
                max(counted_to) over (
                    {{ in_order }} rows between unbounded preceding and 1 preceding
                ), {{ before_all }}
            ) as covered_to,
            lead(known_from, 1, date '9999-12-31') over ({{ in_order }}) as next_from,
            case
                when
                    is_late = 0
                    and lag(known_from, 1, {{ before_all }}) over ({{ in_order }}) < known_from
                    then unit
                else 0
            end as of_day
        from named
    ),

    changes as (
        select
            entity_id,
            known_from as changed_at,
            of_day,
            case when covered_to < known_from then unit else 0 end as change
        from covered
        where of_day > 0 or covered_to < known_from
        union all
        select
            entity_id,
            greatest(counted_to, covered_to) as changed_at,
            0 as of_day,
            -unit as change
        from covered
        where greatest(counted_to, covered_to) < next_from
    )

    select
        entity_id,
        changed_at,
        cast(sum(of_day) as bigint) as of_day,
        cast(sum(change) as bigint) as change
    from changes
    group by entity_id, changed_at
{%- endmacro %}


{#
  Velocity and known fraud of an entity, as `daily_windows`: authorizations as `volume`, and of the
  approved ones those held to be third-party fraud by then (`frauds`). `column` of
  int_authorizations__known is the entity's; rows without it are nobody's. With `has_cards` also
  how many different cards used it (`cards`).
#}
{% macro risk_sums(entity, column, has_cards=true) -%}
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

    -- A known fraud is about an authorization that counted long before: it never counts longer than
    -- the longest window, so that all of them have an end.
    contributions as (
        select
            {{ column }} as entity_id,
            active_from,
            known_from,
            known_to,
            card_id as cards,
            {{ volume() }} as volume,
            0 as frauds
        from known
        union all
        select
            known.{{ column }} as entity_id,
            known.active_from,
            greatest(known.known_from, frauds.known_from) as known_from,
            coalesce(
                least(known.known_to, frauds.known_to),
                {{ plus('known.active_from', 90, 'day', 'date') }}
            ) as known_to,
            null as cards,
            0 as volume,
            1 as frauds
        from known
        inner join frauds on known.transaction_id = frauds.transaction_id
        where
            not known.is_declined
            and (known.known_to is null or frauds.known_from < known.known_to)
            and (frauds.known_to is null or known.known_from < frauds.known_to)
    ),

    {%- if has_cards %}
    card_changes as (
        {{ distinct_changes('contributions', ['cards'], 30) }}
    ),
    {%- endif %}

    windows as (
        {{ daily_windows(
            'contributions',
            {'volume': [1, 7, 30, 90], 'frauds': [1, 7, 30, 90]},
            wide=['volume'],
            sparse=['frauds'],
            distinct=['card_changes', 30] if has_cards
        ) }}
    )

    select * from windows
{%- endmacro %}


{# Of `risk_sums`: transactions, known frauds and their smoothed rate, as select items. #}
{% macro risk_columns(prefix, count='count') -%}
    {%- for days in [1, 7, 30, 90] -%}
    {{ approved_of('volume_' ~ days ~ 'd') }} as {{ prefix }}{{ count }}_{{ days }}d,
    cast(frauds_{{ days }}d as bigint) as {{ prefix }}fraud_count_{{ days }}d,
    {{ smoothed_rate('frauds_' ~ days ~ 'd', approved_of('volume_' ~ days ~ 'd')) }}
        as {{ prefix }}fraud_rate_{{ days }}d
    {{- ',\n    ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{# Of `risk_sums`: amounts, declined authorizations and cards, as select items. #}
{% macro velocity_columns(prefix, has_cards=true) -%}
    {%- for days in [1, 7, 30] -%}
    {{ amount_of('volume_' ~ days ~ 'd') }} as {{ prefix }}_amount_{{ days }}d_minor,
    {{ declined_of('volume_' ~ days ~ 'd') }} as {{ prefix }}_declined_count_{{ days }}d
    {{- ',\n    ' if not loop.last }}
    {%- endfor -%}
    {%- if has_cards -%}
    {%- for days in [1, 30] -%}
    ,
    {{ unpacked_count('distinct_' ~ days ~ 'd', 0) }} as {{ prefix }}_card_count_{{ days }}d
    {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
