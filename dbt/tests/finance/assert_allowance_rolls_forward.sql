-- The breakage allowance moves by its flows, and the next period opens with it.
with checked as (
    select
        *,
        opening_allowance_minor + provision_minor - breakage_minor + reestimate_minor
            as expected_allowance_minor,
        lead(opening_allowance_minor) over (partition by program_id order by period)
            as next_opening_allowance_minor
    from {{ ref('liability_rollforward') }}
)

select *
from checked
where
    closing_allowance_minor <> expected_allowance_minor
    or next_opening_allowance_minor <> closing_allowance_minor
