-- Debits are credits for every program, period and source.
select
    program_id,
    period,
    source,
    sum(debit_minor) as debit_minor,
    sum(credit_minor) as credit_minor
from {{ ref('gl_entries') }}
group by all
having sum(debit_minor) <> sum(credit_minor)
