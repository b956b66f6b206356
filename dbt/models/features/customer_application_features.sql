-- Exact to the instant: a customer's own application counts as soon as it is known.
{{
    config(
        incremental_strategy='replace_touched',
        meta={'replaces': {'entity': 'applicant', 'key': 'customer_id'}},
    )
}}

with rows_of_customers as (
    select *
    from {{ ref('stg_landing__applications') }}
    where application_id in (
        select application_id
        from {{ ref('stg_landing__applications') }}
        where customer_id is not null and {{ is_touched('customer_id', 'applicant') }}
    )
),

application_versions as (
    {{ versions('rows_of_customers', ['application_id']) }}
),

contributions as (
    select
        customer_id as entity_id,
        submitted_at as active_from,
        greatest(submitted_at, received_at) as known_from,
        superseded_at as known_to,
        1 as applications,
        case when decision = 'DECLINED' then 1 else 0 end as declined
    from application_versions
    where customer_id is not null and {{ is_touched('customer_id', 'applicant') }}
),

sums as (
    {{ window_sums(
        'contributions',
        {'applications': [30, 365], 'declined': [365]}
    ) }}
)

select
    entity_id as customer_id,
    changed_at as event_timestamp,
    changed_at as created_timestamp,
    cast(applications_30d as bigint) as app_count_30d,
    cast(applications_365d as bigint) as app_count_365d,
    cast(declined_365d as bigint) as app_declined_count_365d
from sums
{{ in_order_of('event_timestamp') }}
