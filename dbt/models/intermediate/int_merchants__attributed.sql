{{
    config(
        materialized='incremental',
        unique_key='merchant_id',
        incremental_strategy='delete+insert',
    )
}}

with merchants as (
    select *
    from {{ ref('stg_landing__merchants') }}
    {{ where_key_is_new('merchant_id', [ref('stg_landing__merchants')]) }}
)

{{ effective_states('merchants', 'merchant_id', ['partner_id', 'mcc', 'country']) }}
