{#
  How members' debts moved, per entry or month: program_id, period and `deficit_change_points`, by
  how many points an account's balance below zero grew (positive) or was made good (negative).

  `order` is the column of the journal that balances are run by: `accounting_period`, as the books
  have them, or `seq`, as they stood when an entry was recorded.
#}
{% macro deficit_changes(order) -%}
    {%- set by_account = 'partition by program_id, account_id order by in_order' -%}
    select
        program_id,
        period,
        greatest(-balance, 0) - greatest(points - balance, 0) as deficit_change_points
    from (
        select
            *,
            sum(points) over ({{ by_account }}) as balance
        from (
            select
                journal.program_id,
                postings.account_id,
                journal.accounting_period as period,
                journal.{{ order }} as in_order,
                sum(
                    case
                        when postings.direction = 'CREDIT' then postings.amount
                        else -postings.amount
                    end
                ) as points
            from {{ source('rewards_ledger', 'journal') }} as journal
            inner join {{ source('rewards_ledger', 'postings') }} as postings
                on journal.journal_id = postings.journal_id
            where
                postings.ledger_account = 'MEMBER_AVAILABLE'
                and postings.asset = 'PTS:' || journal.program_id
            group by all
        ) as movements
    ) as balances
{%- endmacro %}
