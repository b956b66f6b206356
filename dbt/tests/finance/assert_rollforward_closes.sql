-- Opening and flows are the closing balance, in points and in money, and the next period opens
-- with it. The closing balance comes from the members' accounts, the flows from the other side.
with checked as (
    select
        *,
        opening_points + accrued_points + adjusted_points - clawed_back_points - redeemed_points
        - transferred_points - expired_points - forfeited_points as expected_points,
        opening_minor + accrued_minor + adjusted_minor - clawed_back_minor - redeemed_minor
        - transferred_minor - expired_minor - forfeited_minor as expected_minor,
        opening_allowance_minor + provision_minor - breakage_minor + reestimate_minor
            as expected_allowance_minor,
        lead(opening_points) over months as next_opening_points,
        lead(opening_minor) over months as next_opening_minor,
        lead(opening_allowance_minor) over months as next_opening_allowance_minor
    from {{ ref('liability_rollforward') }}
    window months as (partition by program_id order by period)
)

select *
from checked
where
    closing_points <> expected_points
    or closing_minor <> expected_minor
    or closing_allowance_minor <> expected_allowance_minor
    or next_opening_points <> closing_points
    or next_opening_minor <> closing_minor
    or next_opening_allowance_minor <> closing_allowance_minor
