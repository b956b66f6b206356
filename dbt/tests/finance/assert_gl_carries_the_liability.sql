-- Accounts 2100 less 1220, and 2190, carry the roll-forward's face and allowance in every period.
with ledger as (
    select
        rollforward.program_id,
        rollforward.period,
        rollforward.closing_minor,
        rollforward.closing_allowance_minor,
        coalesce(
            sum(entries.credit_minor - entries.debit_minor) filter (
                where entries.account_code in ('2100', '1220')
            ), 0
        ) as booked_face_minor,
        coalesce(
            sum(entries.debit_minor - entries.credit_minor) filter (
                where entries.account_code = '2190'
            ), 0
        ) as booked_allowance_minor
    from {{ ref('liability_rollforward') }} as rollforward
    left join {{ ref('gl_entries') }} as entries
        on
            rollforward.program_id = entries.program_id
            and rollforward.period >= entries.period
    group by all
)

select *
from ledger
where booked_face_minor <> closing_minor or booked_allowance_minor <> closing_allowance_minor
