-- What request-time windows of a card are counted from: a log of what was heard of it in the last
-- 24 hours, and when and where it was last used. A row stands at each time at which something was
-- heard; what leaves a window is seen to at the request.
--
-- The log has a message per authorization, `<microseconds>:<amount>:<A or D>:<id>` for approved or
-- declined, and the same with a small letter where it was corrected away later. By the id, of the
-- transaction, the online store tells which of the pushed authorizations are in the log. Every
-- message that may fall into a window of 24 hours after the row is in the 24 hours of known time
-- before it: nothing is known before it happens. Of more than 128 messages the last 128 are kept.
--
-- When and where the card was last used is not taken back by a correction, and is forgotten after
-- 90 days.
{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'card',
                'key': 'card_id',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

with known as (
    select
        *,
        {{ microseconds('event_at') }} as event_us,
        {{ microseconds('event_at') }} || ':' || amount_minor as message,
        ':' || substr(md5(transaction_id), 1, 12) as id
    from {{ ref('int_authorizations__known') }}
    where
        {{ is_touched('card_id', 'card') }}
        and {{ is_since_touched('active_from', 'card', 91) }}
        and known_at < event_at + interval '90' day
        and (known_until is null or known_at < known_until)
),

changes as (
    select
        card_id,
        known_at as changed_at,
        case
            when known_at < event_at + interval '1' day
                then message || case when is_declined then ':D' else ':A' end || id
        end as message,
        case when is_declined then null else event_us end as used_us,
        case when is_declined then event_us end as declined_us,
        -- Microseconds of 19 digits, so that the greatest text is the latest place.
        case
            when
                not is_declined and is_card_present
                and latitude is not null and longitude is not null
                then
                    (event_us + 1000000000000000000) || ' ' || latitude || ' ' || longitude
        end as place
    from known
    union all
    select
        card_id,
        known_until as changed_at,
        message || case when is_declined then ':d' else ':a' end || id as message,
        null as used_us,
        null as declined_us,
        null as place
    from known
    where known_until < event_at + interval '1' day
),

{% set so_far = 'partition by card_id order by changed_at' %}

-- Up to each time, with all that was heard at it.
states as (
    select
        card_id,
        changed_at,
        {{ last_texts(
            'message', 128,
            so_far ~ " range between interval '86400' second preceding and current row"
        ) }} as recent_authorizations,
        max(used_us) over ({{ so_far }}) as last_used_us,
        max(declined_us) over ({{ so_far }}) as last_declined_us,
        max(place) over ({{ so_far }}) as last_place,
        {{ microseconds("changed_at - interval '90' day") }} as forgotten_us
    from changes
    qualify changed_at is distinct from lag(changed_at) over ({{ so_far }})
)

select
    card_id,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    recent_authorizations,
    case when last_used_us > forgotten_us then last_used_us end as last_used_us,
    case when last_declined_us > forgotten_us then last_declined_us end as last_declined_us,
    case
        when cast(substr(last_place, 1, 19) as bigint) - 1000000000000000000 > forgotten_us
            then last_place
    end as last_place
from states
where {{ is_since_touched('changed_at', 'card') }}
{{ in_order_of('event_timestamp') }}
