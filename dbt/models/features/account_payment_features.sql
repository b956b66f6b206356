-- A row stands at the end of a statement's period, or later where the statement arrived later, and
-- at each later time at which a correction or a returned payment became known. It uses the
-- statements and payments that were known then, of the last twelve periods.
{{
    config(
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'statement_account',
                'key': 'account_id',
                'since': 'event_timestamp',
                'is_instant': true,
            }
        },
    )
}}

-- All rows of the accounts' statements and payments; another one may be of another account.
with statement_rows as (
    select *
    from {{ ref('stg_landing__statements') }}
    where statement_id in (
        select statement_id
        from {{ ref('stg_landing__statements') }}
        where {{ is_touched('account_id', 'statement_account') }}
    )
),

statements as (
    {{ versions('statement_rows', ['statement_id']) }}
),

payment_rows as (
    select *
    from {{ ref('stg_landing__payments') }}
    where payment_id in (
        select payment_id
        from {{ ref('stg_landing__payments') }}
        where {{ is_touched('account_id', 'statement_account') }}
    )
),

payments as (
    {{ versions('payment_rows', ['payment_id']) }}
),

returned as (
    select
        account_id,
        coalesce(returned_at, received_at) as returned_at,
        greatest(received_at, returned_at) as known_from,
        superseded_at as known_to
    from payments
    where state = 'RETURNED' and {{ is_touched('account_id', 'statement_account') }}
),

accounts as (
    select *
    from {{ ref('dim_accounts') }}
    where {{ is_touched('account_id', 'statement_account') }}
),

known as (
    select
        account_id,
        statement_id,
        period_end_on,
        opening_balance_minor,
        closing_balance_minor,
        credit_limit_minor,
        minimum_due_minor,
        purchases_minor,
        cash_advances_minor,
        payments_minor,
        credits_minor,
        days_past_due,
        greatest(received_at, {{ midnight_after('period_end_on') }}) as known_from,
        superseded_at as known_to
    from statements
    where {{ is_touched('account_id', 'statement_account') }}
),

first_statements as (
    select
        account_id,
        min(known_from) as first_known_from
    from known
    group by account_id
),

-- What was corrected before it counted never did.
changes as (
    {% for told in ['known', 'returned'] %}
    select
        account_id,
        unnest([known_from, known_to]) as moment
    from {{ told }}
    where known_to is null or known_from < known_to
    {{ 'union' if not loop.last }}
    {% endfor %}
),

moments as (
    select
        changes.account_id,
        changes.moment
    from changes
    inner join first_statements
        on
            changes.account_id = first_statements.account_id
            and changes.moment >= first_statements.first_known_from
),

new_moments as (
    select
        account_id,
        moment
    from moments
    where {{ is_since_touched('moment', 'statement_account') }}
),

-- The statements known at a moment, newest first.
recent as (
    select
        new_moments.moment,
        known.*,
        lead(known.minimum_due_minor) over (
            partition by new_moments.account_id, new_moments.moment
            order by known.period_end_on desc, known.statement_id desc
        ) as previous_minimum_due_minor,
        row_number() over (
            partition by new_moments.account_id, new_moments.moment
            order by known.period_end_on desc, known.statement_id desc
        ) as recency
    from new_moments
    inner join known
        on
            new_moments.account_id = known.account_id
            and new_moments.moment >= known.known_from
            and (known.known_to is null or new_moments.moment < known.known_to)
            and known.period_end_on > new_moments.moment - interval '18' month
),

judged as (
    select
        *,
        case
            when previous_minimum_due_minor > 0 and payments_minor is not null
                then payments_minor < previous_minimum_due_minor
            else coalesce(days_past_due, 0) > 0
        end as is_missed,
        -- Ten per cent above it is still the minimum: many round it up.
        payments_minor between previous_minimum_due_minor and previous_minimum_due_minor * 11 // 10
        and previous_minimum_due_minor > 0
        and payments_minor < opening_balance_minor as is_minimum_only,
        greatest(opening_balance_minor, 0) as billed_minor,
        cast(closing_balance_minor as double) / nullif(credit_limit_minor, 0) as utilisation,
        case
            when recency <= 6 then {{ millionths('closing_balance_minor', 'credit_limit_minor') }}
        end as utilisation_6m,
        case when recency <= 6 then purchases_minor end as purchases_6m
    from recent
    where recency <= 12
),

summed as (
    select
        account_id,
        moment,
        max(period_end_on) as period_end_on,
        max(closing_balance_minor) filter (where recency = 1) as balance_minor,
        max(credit_limit_minor) filter (where recency = 1) as limit_minor,
        {% for months in [3, 6] %}
        sum(closing_balance_minor) filter (where recency <= {{ months }})
            as balance_{{ months }}m_minor,
        sum(credit_limit_minor) filter (where recency <= {{ months }}) as limit_{{ months }}m_minor,
        count(*) filter (where recency <= {{ months }} and credit_limit_minor is null)
            as no_limit_{{ months }}m_n,
        {% endfor %}
        max(utilisation) as utilisation_max,
        {{ relative_slope('-recency', 'utilisation_6m') }} as utilisation_slope,
        {{ relative_slope('-recency', 'purchases_6m') }} as spend_slope,
        {% for months in [1, 3, 6] %}
        sum(payments_minor) filter (where recency <= {{ months }} and billed_minor > 0)
            as paid_{{ months }}m_minor,
        sum(billed_minor) filter (where recency <= {{ months }} and payments_minor is not null)
            as billed_{{ months }}m_minor,
        {% endfor %}
        max(days_past_due) filter (where recency = 1) as days_past_due,
        {% for months in [3, 6, 12] %}
        max(days_past_due) filter (where recency <= {{ months }}) as days_past_due_{{ months }}m,
        {% endfor %}
        count(*) filter (where recency <= 6 and is_missed) as missed_6m_n,
        count(*) filter (where recency <= 6 and is_minimum_only) as minimum_only_6m_n,
        count(*) filter (where recency <= 6 and payments_minor < billed_minor) as revolver_6m_n,
        count(cash_advances_minor) filter (where recency <= 6) as told_cash_6m_n,
        count(*) filter (where recency <= 6 and cash_advances_minor > 0) as cash_6m_n,
        sum(cash_advances_minor) filter (where recency <= 6) as cash_6m_minor,
        sum(credits_minor) filter (where recency <= 6 and purchases_minor is not null)
            as credits_6m_minor,
        sum(purchases_minor) filter (where recency <= 6 and credits_minor is not null)
            as purchases_6m_minor,
        count(*) filter (
            where recency <= 6 and closing_balance_minor > credit_limit_minor
        ) as overlimit_6m_n
    from judged
    group by account_id, moment
),

returned_summed as (
    select
        new_moments.account_id,
        new_moments.moment,
        count(*) as returned_6m_n
    from new_moments
    inner join returned
        on
            new_moments.account_id = returned.account_id
            and new_moments.moment >= returned.known_from
            and (returned.known_to is null or new_moments.moment < returned.known_to)
            and returned.returned_at > new_moments.moment - interval '6' month
    group by new_moments.account_id, new_moments.moment
)

select
    summed.account_id,
    summed.moment as event_timestamp,
    summed.moment as created_timestamp,
    summed.balance_minor as beh_balance_cur_minor,
    cast(summed.balance_minor as double)
    / nullif(coalesce(summed.limit_minor, accounts.credit_limit_minor), 0) as beh_util_cur,
    {% for months in [3, 6] %}
    case
        when summed.no_limit_{{ months }}m_n = 0
            then
                cast(summed.balance_{{ months }}m_minor as double)
                / nullif(summed.limit_{{ months }}m_minor, 0)
    end as beh_util_avg{{ months }},
    {% endfor %}
    summed.utilisation_max as beh_util_max12,
    summed.utilisation_slope as beh_util_slope_6m,
    {% for months in [1, 3, 6] %}
    cast(summed.paid_{{ months }}m_minor as double) / nullif(summed.billed_{{ months }}m_minor, 0)
        as beh_pay_ratio_{{ months }}m,
    {% endfor %}
    summed.days_past_due as beh_dpd_cur,
    {% for months in [3, 6, 12] %}
    summed.days_past_due_{{ months }}m as beh_dpd_max_{{ months }}m,
    {% endfor %}
    summed.missed_6m_n as beh_missed_6m_n,
    summed.minimum_only_6m_n as beh_minpay_only_6m_n,
    summed.revolver_6m_n as beh_revolver_6m_n,
    case when summed.told_cash_6m_n > 0 then summed.cash_6m_n end as beh_cash_adv_6m_n,
    cast(summed.cash_6m_minor as bigint) as beh_cash_adv_6m_minor,
    summed.overlimit_6m_n as beh_overlimit_6m_n,
    coalesce(returned_summed.returned_6m_n, 0) as beh_returned_pay_6m_n,
    summed.spend_slope as beh_spend_slope_6m,
    cast(summed.credits_6m_minor as double) / nullif(summed.purchases_6m_minor, 0)
        as beh_refund_ratio_6m,
    cast({{ full_months('accounts.opened_on', 'summed.period_end_on') }} as bigint) as beh_mob
from summed
left join returned_summed
    on
        summed.account_id = returned_summed.account_id
        and summed.moment = returned_summed.moment
left join accounts
    on
        summed.account_id = accounts.account_id
        and summed.moment >= accounts.valid_from
        and summed.moment < coalesce(accounts.valid_to, timestamp '9999-12-31 00:00:00')
{{ in_order_of('event_timestamp') }}
