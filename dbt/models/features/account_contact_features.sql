-- Where an account's customer lives, and when the address, the telephone number and the e-mail
-- address last became others: a row at each time at which something else was known. What was never
-- known before is no change, nor is a correction (of the same `updated_at`).
{{ config(unique_key='account_id', incremental_strategy='delete+insert') }}

{% set never = "timestamp '9999-12-31 00:00:00'" %}
{% set before = 'partition by customer_id order by valid_from
            rows between unbounded preceding and 1 preceding' %}
{% set files = new_files() %}
{% set told_accounts = ref('stg_landing__accounts') %}
{% set told_customers = ref('stg_landing__customers') %}

with accounts as (
    select
        account_id,
        customer_id,
        valid_from,
        coalesce(valid_to, {{ never }}) as valid_to
    from {{ ref('dim_accounts') }}
    {%- if is_delta() %}
    where account_id in (
        select account_id
        from {{ told_accounts }}
        where file_id in ({{ files }})
        union all
        select account_id
        from {{ ref('dim_accounts') }}
        where customer_id in (
            select customer_id
            from {{ told_customers }}
            where file_id in ({{ files }})
        )
    )
    {%- endif %}
),

versions as (
    select
        customer_id,
        valid_from,
        coalesce(valid_to, {{ never }}) as valid_to,
        latitude,
        longitude,
        -- What is dated ahead counts from when it is known; what is of the same time corrects.
        case
            when updated_at > max(updated_at) over ({{ before }})
                then least(updated_at, valid_from)
        end as changed_at,
        state <> {{ last_known('state', before) }}
        or postal_code <> {{ last_known('postal_code', before) }} as is_address_changed,
        phone_hash <> {{ last_known('phone_hash', before) }} as is_phone_changed,
        email_hash <> {{ last_known('email_hash', before) }} as is_email_changed
    from {{ ref('dim_customers') }}
    where customer_id in (select customer_id from accounts)
),

customers as (
    select
        customer_id,
        valid_from,
        valid_to,
        latitude,
        longitude,
        max(case when is_address_changed then changed_at end) over so_far as address_changed_at,
        max(case when is_phone_changed then changed_at end) over so_far as phone_changed_at,
        max(case when is_email_changed then changed_at end) over so_far as email_changed_at
    from versions
    window so_far as (
        partition by customer_id order by valid_from
        rows between unbounded preceding and current row
    )
),

first_known as (
    select
        customer_id,
        min(valid_from) as valid_from
    from versions
    group by customer_id
),

-- Before a customer is known nothing is known of the account's either.
all_of_time as (
    select *
    from customers
    union all
    select distinct
        accounts.customer_id,
        timestamp '0001-01-01 00:00:00' as valid_from,
        coalesce(first_known.valid_from, {{ never }}) as valid_to,
        cast(null as double) as latitude,
        cast(null as double) as longitude,
        cast(null as timestamp) as address_changed_at,
        cast(null as timestamp) as phone_changed_at,
        cast(null as timestamp) as email_changed_at
    from accounts
    left join first_known on accounts.customer_id = first_known.customer_id
),

known as (
    select
        accounts.account_id,
        greatest(accounts.valid_from, all_of_time.valid_from) as event_timestamp,
        all_of_time.latitude as home_latitude,
        all_of_time.longitude as home_longitude,
        {{ microseconds('all_of_time.address_changed_at') }} as address_changed_us,
        {{ microseconds('all_of_time.phone_changed_at') }} as phone_changed_us,
        {{ microseconds('all_of_time.email_changed_at') }} as email_changed_us
    from accounts
    inner join all_of_time
        on
            accounts.customer_id = all_of_time.customer_id
            and accounts.valid_from < all_of_time.valid_to
            and accounts.valid_to > all_of_time.valid_from
),

changes as (
    select *
    from known
    window by_time as (partition by account_id order by event_timestamp)
    qualify
        row_number() over by_time = 1
        or home_latitude is distinct from lag(home_latitude) over by_time
        or home_longitude is distinct from lag(home_longitude) over by_time
        or address_changed_us is distinct from lag(address_changed_us) over by_time
        or phone_changed_us is distinct from lag(phone_changed_us) over by_time
        or email_changed_us is distinct from lag(email_changed_us) over by_time
)

select
    account_id,
    event_timestamp,
    event_timestamp as created_timestamp,
    home_latitude,
    home_longitude,
    address_changed_us,
    phone_changed_us,
    email_changed_us
from changes
{{ in_order_of('event_timestamp') }}
