{#
  What windows of up to 24 hours are counted from at the request: a log of what was heard of an
  entity (`column` of int_authorizations__known) in the last 24 hours, one row at each time at which
  something was heard. What leaves a window is seen to at the request.

  The log has a message per authorization, `<microseconds>:<amount>:<A or D>:<id>` for approved or
  declined, and the same with a small letter where it was corrected away later. By the id, of the
  transaction, the online store tells which of the pushed authorizations are in the log. Every
  message that may fall into a window of 24 hours after the row is in the 24 hours of known time
  before it: nothing is known before it happens.

  Of more than `longest` messages there is no log, which no row could hold of a busy merchant, but
  what was heard within the windows of 15 minutes, an hour and a day that end with the row, of
  authorizations that were then no older than the window: `=<microseconds>:<those of the latest
  authorization>`, then `:<approved>:<declined>:<amount>` of each.

  With `has_uses` also the microseconds of the last use and the last decline, and the last place;
  they are not taken back by a correction, and are forgotten after 90 days.
#}
{% macro recent_authorizations(entity, column, longest, has_uses=false) -%}
    {%- set windows = [900, 3600, 86400] -%}
    {%- set by_time = 'partition by entity_id order by changed_at' -%}
    {%- set of_a_day = by_time ~ " range between interval '86400' second preceding and current row" -%}
    {#- Files come a day apart: what was heard exactly a window ago is of the day before. -#}
    {%- set within_a_day = of_a_day | replace('86400', '86399.999999') -%}
    with known as (
        select
            *,
            {{ microseconds('event_at') }} as event_us,
            {{ microseconds('event_at') }} || ':' || amount_minor as message,
            ':' || substr(md5(transaction_id), 1, 12) as id
        from {{ ref('int_authorizations__known') }}
        where
            {{ column }} is not null
            and {{ is_touched(column, entity) }}
            and {{ is_since_touched('active_from', entity, 91 if has_uses else 2) }}
            and known_at <= event_at + interval '{{ 90 if has_uses else 1 }}' day
            and (known_until is null or known_at < known_until)
    ),

    changes as (
        select
            {{ column }} as entity_id,
            known_at as changed_at,
            case
                when known_at <= event_at + interval '1' day
                    then message || case when is_declined then ':D' else ':A' end || id
            end as message,
            {%- if has_uses %}
            case when is_declined then null else event_us end as used_us,
            case when is_declined then event_us end as declined_us,
            -- Microseconds of 19 digits, so that the greatest text is the latest place.
            case
                when
                    not is_declined and is_card_present
                    and latitude is not null and longitude is not null
                    then
                        (event_us + 1000000000000000000) || ' ' || latitude || ' ' || longitude
            end as place,
            {%- endif %}
            event_at,
            {{ volume() }} as volume
        from known
        union all
        select
            {{ column }} as entity_id,
            known_until as changed_at,
            message || case when is_declined then ':d' else ':a' end || id as message,
            {%- if has_uses %}
            null as used_us,
            null as declined_us,
            null as place,
            {%- endif %}
            event_at,
            0 as volume
        from known
        where known_until <= event_at + interval '1' day
    ),

    counted as (
        select
            *,
            case when heard > {{ longest }} then 0 else heard_of_a_day - 1 end as earlier
        from (
            select
                *,
                count(*) over ({{ within_a_day }}) as heard,
                count(*) over ({{ of_a_day }}) as heard_of_a_day
            from changes
        ) as in_order
    ),

    -- Up to each time, with all that was heard at it.
    states as (
        select
            entity_id,
            changed_at,
            heard,
            {%- if has_uses %}
            max(used_us) over ({{ by_time }}, message) as last_used_us,
            max(declined_us) over ({{ by_time }}, message) as last_declined_us,
            max(place) over ({{ by_time }}, message) as last_place,
            {{ microseconds("changed_at - interval '90' day") }} as forgotten_us,
            {%- endif %}
            {{ last_texts('message', 'earlier', by_time) }} as recent_authorizations
        from counted
        qualify changed_at is distinct from lead(changed_at) over ({{ by_time }}, message)
    ),

    -- Of more than `longest` in 24 hours, more than half were on one of two days.
    busy as (
        select distinct
            entity_id,
            changed_at
            {%- for seconds in windows %},
            sum(
                case
                    when changed_at < event_at + interval '{{ seconds }}' second then volume
                    else 0
                end
            ) over (
                {{ by_time }}
                range between interval '{{ seconds - 1 }}.999999' second preceding and current row
            ) as volume_{{ seconds }}
            {%- endfor %},
            max(event_at) over ({{ within_a_day }}) as last_event_at
        from changes
        where entity_id in (
            select entity_id
            from changes
            group by entity_id, cast(changed_at as date)
            having count(*) > {{ longest // 2 }}
        )
    )

    select
        states.entity_id,
        states.changed_at,
        {%- if has_uses %}
        case when last_used_us > forgotten_us then last_used_us end as last_used_us,
        case when last_declined_us > forgotten_us then last_declined_us end as last_declined_us,
        case
            when cast(substr(last_place, 1, 19) as bigint) - 1000000000000000000 > forgotten_us
                then last_place
        end as last_place,
        {%- endif %}
        case
            when heard <= {{ longest }} then recent_authorizations
            else
                '=' || {{ microseconds('states.changed_at') }}
                || ':' || {{ microseconds('last_event_at') }}
                {%- for seconds in windows %}
                {%- for part in [approved_of, declined_of, amount_of] %}
                || ':' || {{ part('volume_' ~ seconds) }}
                {%- endfor %}
                {%- endfor %}
        end as recent_authorizations
    from states
    left join busy
        on states.entity_id = busy.entity_id and states.changed_at = busy.changed_at
    where {{ is_since_touched('states.changed_at', entity) }}
{%- endmacro %}



{#
  What an account bought at one place or of one kind (`column` of int_authorizations__known) in the
  last 90 days, one row at each time at which something was heard: entity_id, changed_at and
  `recent_uses`, `<microseconds>:<amount>` of each authorization that was not declined, and with `:-`
  after it where it was corrected away later; the last 50 of them. What leaves a window is
  seen to at the request. `entity` is the pair's.
#}
{% macro recent_uses(entity, column) -%}
    {%- set by_time = 'partition by entity_id order by changed_at' -%}
    {%- set of_90_days = by_time ~ " range between interval '90' day preceding and current row" -%}
    with uses as (
        select
            {{ pair_key('account_id', column) }} as entity_id,
            known_at,
            known_until,
            event_at + interval '90' day as forgotten_at,
            {{ microseconds('event_at') }} || ':' || amount_minor as message
        from {{ ref('int_authorizations__known') }}
        where
            {{ column }} is not null
            and not is_declined
            and {{ is_touched('account_id', 'account') }}
            and {{ is_since_touched('active_from', entity, 91) }}
            and known_at <= event_at + interval '90' day
            and (known_until is null or known_at < known_until)
    ),

    changes as (
        select
            entity_id,
            known_at as changed_at,
            message
        from uses
        where {{ is_touched('entity_id', entity) }}
        union all
        select
            entity_id,
            known_until as changed_at,
            message || ':-' as message
        from uses
        where known_until <= forgotten_at and {{ is_touched('entity_id', entity) }}
    ),

    counted as (
        select
            *,
            least(count(*) over ({{ of_90_days }}), 50) - 1 as earlier
        from changes
    )

    select
        entity_id,
        changed_at,
        {{ last_texts('message', 'earlier', by_time, days=90) }} as recent_uses
    from counted
    qualify
        changed_at is distinct from lead(changed_at) over ({{ by_time }}, message)
        and {{ is_since_touched('changed_at', entity) }}
{%- endmacro %}
