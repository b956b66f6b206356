-- One row for every program and month between a program's first and last.
select
    program_id,
    count(*) as rows_found,
    count(distinct period) as periods_found,
    datediff(
        'month', cast(min(period) || '-01' as date), cast(max(period) || '-01' as date)
    ) + 1 as months_spanned
from {{ ref('liability_rollforward') }}
group by program_id
having rows_found <> months_spanned or periods_found <> months_spanned
