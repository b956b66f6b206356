-- An account's credit limit, when it came to be, and the one before it: a row at each time at which
-- another limit was known.
{{ config(unique_key='account_id', incremental_strategy='delete+insert') }}

with arrived as (
    select
        *,
        lag(credit_limit_minor) over (partition by account_id order by valid_from)
            as previous_limit_minor
    from {{ ref('dim_accounts') }}
    {{ where_key_is_new('account_id', [ref('stg_landing__accounts')]) }}
)

select
    account_id,
    valid_from as event_timestamp,
    valid_from as created_timestamp,
    credit_limit_minor,
    previous_limit_minor,
    case when previous_limit_minor is not null then {{ microseconds('updated_at') }} end
        as limit_changed_us
from arrived
where credit_limit_minor is distinct from previous_limit_minor
{{ in_order_of('event_timestamp') }}
