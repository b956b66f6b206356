-- BAD: 90 days past due, charged off, bankrupt or settled for less within the performance window;
-- GOOD: never 30 days past due; INDETERMINATE: between. Of an account whose days past due no
-- statement tells, or that owed when its statements broke off, it is not known. Nothing is known
-- before the window has passed, of the bad ones either: an early label of the bad alone would make
-- young vintages look worse than they are. The clock is what has arrived, so that the same data
-- always give the same answer.
-- An outcome that a source ships ready-made stands for itself.
{% set months = var('performance_months') | int %}
{% set defaults = quoted(['CHARGED_OFF_DELINQUENT', 'BANKRUPTCY', 'SETTLED_FOR_LESS']) %}
{% set is_default %}
    (
        coalesce(substatus in ({{ defaults }}), false)
        or coalesce(close_reason in ({{ defaults }}), false)
    )
{% endset %}

-- Where no day is told on which an account was charged off: when it was first said to be.
with first_told as (
    select
        account_id,
        min(updated_at) as defaulted_at
    from {{ ref('dim_accounts') }}
    where {{ is_default }}
    group by account_id
),

accounts as (
    select
        current_states.*,
        coalesce(
            charge_off_on,
            case
                when {{ is_default }}
                    then coalesce(closed_on, cast(first_told.defaulted_at as date))
            end
        ) as defaulted_on
    from {{ ref('dim_accounts') }} as current_states
    left join first_told on current_states.account_id = first_told.account_id
    where is_current
),

statements as (
    select * from {{ ref('fct_statements') }}
),

shipped as (
    select
        account_id,
        is_bad,
        greatest(known_at, received_at) as known_at
    from {{ ref('fct_credit_outcomes') }}
    where account_id is not null
    qualify row_number() over (
        partition by account_id order by known_at desc, received_at desc, outcome_id
    ) = 1
),

clock as (
    select max(received_at) as known_until
    from (
        select received_at from statements
        union all
        select received_at from accounts
    ) as arrivals
),

windows as (
    select
        accounts.*,
        {{ plus('accounts.opened_on', months, 'month', 'date') }} as performance_end_on,
        clock.known_until,
        cast(clock.known_until as date) as known_until_on
    from accounts
    cross join clock
),

observed as (
    select
        windows.account_id,
        count(*) as statement_count,
        max(statements.days_past_due) as worst_days_past_due,
        max(statements.period_end_on) as last_period_end_on,
        max_by(
            statements.closing_balance_minor,
            cast(statements.period_end_on as varchar) || statements.statement_id
        ) as last_balance_minor,
        coalesce(
            bool_or(
                statements.closing_balance_minor <> 0
                or coalesce(statements.purchases_minor, 0) > 0
                or coalesce(statements.cash_advances_minor, 0) > 0
                -- Some sources tell the state of an account and no amounts.
                or coalesce(statements.days_past_due, 0) > 0
            ), false
        ) as is_active,
        max(statements.received_at) as received_at
    from windows
    inner join statements
        on
            windows.account_id = statements.account_id
            and windows.performance_end_on >= statements.period_end_on
    group by windows.account_id
),

judged as (
    select
        windows.*,
        coalesce(observed.statement_count, 0) as statement_count,
        observed.worst_days_past_due,
        coalesce(windows.defaulted_on <= windows.performance_end_on, false) as is_charged_off,
        coalesce(
            observed.last_balance_minor > 0
            and observed.last_period_end_on
            < least(windows.performance_end_on, windows.closed_on) - interval '2' month, false
        ) as is_broken_off,
        coalesce(windows.substatus, '') = 'CHARGED_OFF_FRAUD' as is_fraud,
        coalesce(observed.is_active, false) as is_active,
        greatest(
            {{ midnight_after('windows.performance_end_on') }},
            observed.received_at,
            case
                when windows.defaulted_on <= windows.performance_end_on
                    then windows.received_at
            end
        ) as judged_at,
        windows.known_until >= {{ midnight_after('windows.performance_end_on') }} as is_mature
    from windows
    left join observed on windows.account_id = observed.account_id
),

derived as (
    select
        *,
        case
            when not is_mature then null
            when is_charged_off or worst_days_past_due >= 90 then 'BAD'
            when worst_days_past_due is null or is_broken_off then null
            when worst_days_past_due >= 30 then 'INDETERMINATE'
            else 'GOOD'
        end as derived_outcome,
        case
            when is_fraud then 'FRAUD'
            when close_reason = 'DECEASED' or substatus = 'DECEASED' then 'DECEASED'
            when
                closed_on < {{ plus('opened_on', 3, 'month', 'date') }}
                and not is_charged_off
                then 'CLOSED_WITHIN_3_MONTHS'
            when is_mature and statement_count = 0 then 'NO_STATEMENTS'
            when is_mature and not is_active and not is_charged_off then 'NEVER_ACTIVE'
            when is_charged_off or worst_days_past_due >= 90 then null
            when is_mature and worst_days_past_due is null then 'DAYS_PAST_DUE_UNKNOWN'
            when is_mature and is_broken_off then 'STATEMENTS_BREAK_OFF'
        end as derived_exclusion
    from judged
)

select
    derived.account_id,
    derived.customer_id,
    derived.program_id,
    derived.opened_on,
    derived.performance_end_on,
    cast(
        {{ full_months(
            'derived.opened_on',
            'greatest(derived.opened_on, least(derived.closed_on, derived.known_until_on))'
        ) }} as bigint
    ) as months_on_book,
    derived.statement_count,
    derived.worst_days_past_due,
    derived.is_charged_off,
    case
        when shipped.account_id is not null then case when shipped.is_bad then 'BAD' else 'GOOD' end
        else derived.derived_outcome
    end as outcome,
    case
        when shipped.account_id is not null then shipped.known_at
        when derived.derived_outcome is not null then derived.judged_at
    end as outcome_known_at,
    case when shipped.account_id is null then derived.derived_exclusion end as exclusion
from derived
left join shipped on derived.account_id = shipped.account_id
