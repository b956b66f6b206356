-- One row per network, month and currency: the month's settlement in one line, from the entries
-- that the general ledger takes over. What is still in clearing has been settled in the details and
-- not been paid by a complete report, or differs from it (R8).
{{ config(tags=['finance']) }}

with clearing as (
    select
        network,
        period,
        currency,
        count(distinct report_on) as settlement_days,
        coalesce(sum(credit_minor - debit_minor) filter (where source = 'GROSS'), 0)
            as gross_minor,
        coalesce(sum(debit_minor - credit_minor) filter (where source = 'INTERCHANGE'), 0)
            as interchange_minor,
        coalesce(sum(debit_minor - credit_minor) filter (where source = 'CHARGES'), 0)
            as charges_minor,
        coalesce(sum(debit_minor - credit_minor) filter (where source = 'NET'), 0)
            as net_paid_minor,
        sum(credit_minor - debit_minor) as in_clearing_minor
    from {{ ref('settlement_entries') }}
    where account_code = '1010'
    group by all
)

select
    network,
    period,
    currency,
    settlement_days,
    cast(gross_minor as bigint) as gross_minor,
    cast(interchange_minor as bigint) as interchange_minor,
    cast(charges_minor as bigint) as charges_minor,
    cast(net_paid_minor as bigint) as net_paid_minor,
    cast(in_clearing_minor as bigint) as in_clearing_minor,
    case
        when gross_minor = 0 then 0
        else cast(round(interchange_minor * 1000000.0 / gross_minor) as bigint)
    end as interchange_rate_micros
from clearing
