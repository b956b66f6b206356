{{
    config(
        materialized='incremental',
        unique_key='application_id',
        incremental_strategy='delete+insert',
    )
}}

with arrived as (
    select *
    from {{ ref('stg_landing__applications') }}
    {{ where_key_is_new('application_id', [ref('stg_landing__applications')]) }}
),

latest as (
    {{ latest_versions('arrived', ['application_id']) }}
)

select
    application_id,
    person_id,
    program_id,
    submitted_at,
    customer_id,
    channel,
    stated_income_minor,
    currency,
    housing_payment_minor,
    employment_status,
    requested_limit_minor,
    device_id,
    ip_hash,
    decision,
    decision_at,
    decision_source,
    approved_limit_minor,
    account_id,
    pull_id,
    received_at,
    first_received_at,
    version_no,
    batch_date,
    file_id,
    line_no,
    record_hash
from latest
