-- The rewards engine writes its programs on its first run; before that there are none.
{{ config(materialized='view') }}

{% set programs = source('rewards_ledger', 'programs') %}
{% set is_written = execute and load_relation(programs) is not none %}

{% if is_written %}
select
    program_id,
    cast(version as bigint) as version,
    cast(valid_from as date) as valid_from,
    cast(valid_to as date) as valid_to,
    valid_to is null as is_current,
    partner_id,
    currency_kind,
    cast(asset_scale as bigint) as asset_scale,
    settlement_model,
    timezone,
    rule_hash
from {{ programs }}
{% else %}
select
    cast(null as varchar) as program_id,
    cast(null as bigint) as version,
    cast(null as date) as valid_from,
    cast(null as date) as valid_to,
    cast(null as boolean) as is_current,
    cast(null as varchar) as partner_id,
    cast(null as varchar) as currency_kind,
    cast(null as bigint) as asset_scale,
    cast(null as varchar) as settlement_model,
    cast(null as varchar) as timezone,
    cast(null as varchar) as rule_hash
where false
{% endif %}
