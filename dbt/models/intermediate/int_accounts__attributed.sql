{{
    config(
        materialized='incremental',
        unique_key='account_id',
        incremental_strategy='delete+insert',
    )
}}

with accounts as (
    select *
    from {{ ref('stg_landing__accounts') }}
    {{ where_key_is_new('account_id', [ref('stg_landing__accounts')]) }}
)

{{ effective_states('accounts', 'account_id', ['program_id', 'customer_id']) }}
