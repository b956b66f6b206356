-- Where an account's customer lives, and when the address, the telephone number and the e-mail
-- address last became others: a row at each time at which something else was known. What was not
-- known before is no change.
{{ config(unique_key='account_id', incremental_strategy='delete+insert') }}

{% set files = new_files() %}
{% set told_accounts = ref('stg_landing__accounts') %}
{% set told_customers = ref('stg_landing__customers') %}

with accounts as (
    select
        account_id,
        customer_id,
        valid_from,
        coalesce(valid_to, timestamp '9999-12-31 00:00:00') as valid_to
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
        coalesce(valid_to, timestamp '9999-12-31 00:00:00') as valid_to,
        updated_at,
        latitude,
        longitude,
        state <> lag(state) over by_time
        or postal_code <> lag(postal_code) over by_time as is_address_changed,
        phone_hash <> lag(phone_hash) over by_time as is_phone_changed,
        email_hash <> lag(email_hash) over by_time as is_email_changed
    from {{ ref('dim_customers') }}
    where customer_id in (select customer_id from accounts)
    window by_time as (partition by customer_id order by valid_from)
),

customers as (
    select
        *,
        max(case when is_address_changed then updated_at end) over so_far as address_changed_at,
        max(case when is_phone_changed then updated_at end) over so_far as phone_changed_at,
        max(case when is_email_changed then updated_at end) over so_far as email_changed_at
    from versions
    window so_far as (
        partition by customer_id order by valid_from
        rows between unbounded preceding and current row
    )
),

known as (
    select
        accounts.account_id,
        greatest(accounts.valid_from, customers.valid_from) as event_timestamp,
        customers.latitude as home_latitude,
        customers.longitude as home_longitude,
        {{ microseconds('customers.address_changed_at') }} as address_changed_us,
        {{ microseconds('customers.phone_changed_at') }} as phone_changed_us,
        {{ microseconds('customers.email_changed_at') }} as email_changed_us
    from accounts
    inner join customers
        on
            accounts.customer_id = customers.customer_id
            and accounts.valid_from < customers.valid_to
            and accounts.valid_to > customers.valid_from
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
