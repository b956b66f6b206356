-- Net = gross - interchange - charges, with the feed's own signs.
{{ config(severity='warn') }}

select
    total_id,
    network,
    report_on,
    gross_minor,
    interchange_minor,
    charges_minor,
    net_minor
from {{ ref('fct_settlement_totals') }}
where net_minor <> gross_minor - interchange_minor - charges_minor
