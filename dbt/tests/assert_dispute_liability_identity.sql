-- Of what is disputed, what was denied, recovered and written off never exceeds the amount, never
-- shrinks, and is all of it once the dispute is closed: what remains is the rest, never negative.
{{ config(severity='warn') }}

with events as (
    select
        *,
        coalesce(denied_minor, 0) + coalesce(recovered_minor, 0) + coalesce(written_off_minor, 0)
            as settled_minor
    from {{ ref('fct_disputes') }}
    where amount_minor is not null
),

in_order as (
    select
        *,
        lag(settled_minor) over (
            partition by dispute_id order by event_at, dispute_event_id
        ) as settled_before_minor
    from events
)

select
    dispute_event_id,
    dispute_id,
    amount_minor,
    settled_minor
from in_order
where
    settled_minor > amount_minor
    or settled_minor < settled_before_minor
    or (event_type = 'CLOSED' and settled_minor <> amount_minor)
