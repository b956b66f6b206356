-- A pull whose details arrive or are corrected later gets a further row at that time; the earlier
-- row stays what it was.
{{ config(incremental_strategy='delete+insert', unique_key='pull_id') }}

{#
  Payment history, newest month first, one character a month: 1-6 are 30 to 180 days late, G H J K L
  are collection, foreclosure, surrender, repossession and charge-off.
#}
{% set late_30 = '1-6GHJKL' %}
{% set late_60 = '2-6GHJKL' %}
{% set late_90 = '3-6GHJKL' %}
{% set children = {
    'bureau_tradelines': ['pull_id', 'tradeline_id'],
    'bureau_trended': ['pull_id', 'tradeline_id', 'month_on'],
    'bureau_inquiries': ['pull_id', 'inquiry_id'],
    'bureau_records': ['pull_id', 'record_id'],
} %}
{% set feeds = [ref('stg_landing__bureau_pulls')] %}
{% for child in children %}{% do feeds.append(ref('stg_landing__' ~ child)) %}{% endfor %}

with pull_rows as (
    select *
    from {{ ref('stg_landing__bureau_pulls') }}
    {{ where_key_is_new('pull_id', feeds) }}
),

pulls as (
    {{ versions('pull_rows', ['pull_id']) }}
),

{% for child, keys in children.items() %}
{{ child }}_rows as (
    select *
    from {{ ref('stg_landing__' ~ child) }}
    where pull_id in (select pull_id from pull_rows)
),

{{ child }} as (
    {{ versions(child ~ '_rows', keys) }}
),
{% endfor %}

-- When something about a pull became known; details that came before the answer wait for it.
moments as (
    select
        pull_id,
        received_at as moment
    from pulls
    {% for child in children %}
    union
    select
        child.pull_id,
        greatest(child.received_at, pulls.first_received_at) as moment
    from {{ child }} as child
    inner join pulls on child.pull_id = pulls.pull_id and pulls.version_no = 1
    {% endfor %}
),

reports as (
    select
        moments.moment,
        cast(moments.moment as date) as report_on,
        pulls.pull_id,
        pulls.file_hit,
        pulls.score
    from moments
    inner join pulls
        on
            moments.pull_id = pulls.pull_id
            and moments.moment >= pulls.received_at
            and (pulls.superseded_at is null or moments.moment < pulls.superseded_at)
),

tradelines as (
    select
        reports.pull_id,
        reports.moment,
        child.tradeline_id,
        child.account_status,
        coalesce(
            child.is_open,
            child.closed_on is null and coalesce(child.account_status, '11') <> '13'
        ) as is_open,
        child.portfolio_type = 'R' as is_revolving,
        coalesce(child.account_type = '18', false) as is_bankcard,
        child.balance_minor,
        coalesce(child.past_due_minor, 0) as past_due_minor,
        coalesce(nullif(child.credit_limit_minor, 0), child.highest_credit_minor, 0)
            as limit_minor,
        coalesce(child.scheduled_payment_minor, 0) as scheduled_payment_minor,
        coalesce(child.payment_history, '') as payment_history,
        substring(coalesce(child.payment_history, ''), 1, 24) as payment_history_24m,
        {{ full_months('child.opened_on', 'reports.report_on') }} as age_m
    from reports
    inner join bureau_tradelines as child
        on
            reports.pull_id = child.pull_id
            and reports.moment >= child.received_at
            and (child.superseded_at is null or reports.moment < child.superseded_at)
),

of_tradelines as (
    select
        pull_id,
        moment,
        count(*) as trades_n,
        count(*) filter (where is_open) as trades_open_n,
        count(*) filter (where is_open and is_bankcard) as bankcards_open_n,
        max(age_m) as oldest_m,
        min(age_m) as newest_m,
        sum(age_m) as ages_m,
        count(*) filter (where age_m < 6) as opened_6m_n,
        count(*) filter (where age_m < 12) as opened_12m_n,
        sum(balance_minor) filter (where is_open and is_revolving and limit_minor > 0)
            as revolving_balance_minor,
        sum(limit_minor) filter (
            where is_open and is_revolving and limit_minor > 0 and balance_minor is not null
        ) as revolving_limit_minor,
        max(cast(balance_minor as double) / nullif(limit_minor, 0)) filter (
            where is_open and is_bankcard and limit_minor > 0
        ) as bankcard_utilisation_max,
        count(*) filter (
            where is_open and is_bankcard and limit_minor > 0
            and balance_minor * 10 > limit_minor * 9
        ) as bankcards_over_90_n,
        {% for name, characters in {'30': late_30, '60': late_60, '90': late_90}.items() %}
        sum({{ count_of_characters('payment_history_24m', characters) }}) as late_{{ name }}_24m_n,
        {% endfor %}
        min({{ count_before_characters('payment_history', late_30) }}) filter (
            where {{ count_of_characters('payment_history', late_30) }} > 0
        ) as months_before_late_30,
        sum(past_due_minor) as past_due_minor,
        count(*) filter (where account_status = '97') as chargeoff_n,
        count(*) filter (
            where is_open and past_due_minor = 0 and coalesce(account_status, '11') = '11'
        ) as satisfactory_n,
        sum(
            case
                when not is_open then 0
                when scheduled_payment_minor > 0 then scheduled_payment_minor
                when is_revolving then (coalesce(balance_minor, 0) * 5 + 50) // 100
                else 0
            end
        ) as monthly_debt_minor
    from tradelines
    group by pull_id, moment
),

of_trended as (
    select
        reports.pull_id,
        reports.moment,
        sum(child.actual_payment_minor) as paid_6m_minor,
        sum(child.scheduled_payment_minor) as scheduled_6m_minor
    from reports
    inner join bureau_trended as child
        on
            reports.pull_id = child.pull_id
            and reports.moment >= child.received_at
            and (child.superseded_at is null or reports.moment < child.superseded_at)
    where
        child.month_on <= reports.report_on
        and child.month_on > reports.report_on - interval '7' month
        and child.actual_payment_minor is not null
        and child.scheduled_payment_minor is not null
    group by reports.pull_id, reports.moment
),

-- Shopping for one car or house loan is one inquiry: same kind, at most 14 days apart.
inquiries as (
    select
        reports.pull_id,
        reports.moment,
        reports.report_on,
        child.inquired_on,
        coalesce(
            upper(child.subscriber_kind) in ('AUTO', 'MORTGAGE')
            and child.inquired_on - interval '14' day <= lag(child.inquired_on) over (
                partition by reports.pull_id, reports.moment, upper(child.subscriber_kind)
                order by child.inquired_on, child.inquiry_id
            ), false
        ) as is_same_shopping
    from reports
    inner join bureau_inquiries as child
        on
            reports.pull_id = child.pull_id
            and reports.moment >= child.received_at
            and (child.superseded_at is null or reports.moment < child.superseded_at)
    where child.inquired_on <= reports.report_on
),

of_inquiries as (
    select
        pull_id,
        moment,
        count(*) filter (where inquired_on > report_on - interval '3' month)
            as inquiries_3m_n,
        count(*) filter (where inquired_on > report_on - interval '6' month)
            as inquiries_6m_n,
        count(*) filter (where inquired_on > report_on - interval '12' month)
            as inquiries_12m_n
    from inquiries
    where not is_same_shopping
    group by pull_id, moment
),

of_records as (
    select
        reports.pull_id,
        reports.moment,
        count(*) filter (where child.kind = 'COLLECTION') as collections_n,
        sum(child.amount_minor) filter (
            where child.kind = 'COLLECTION' and child.resolved_on is null
        ) as collections_balance_minor,
        count(*) filter (where child.kind <> 'COLLECTION') as public_records_n
    from reports
    inner join bureau_records as child
        on
            reports.pull_id = child.pull_id
            and reports.moment >= child.received_at
            and (child.superseded_at is null or reports.moment < child.superseded_at)
    group by reports.pull_id, reports.moment
)

select
    reports.pull_id,
    reports.moment as event_timestamp,
    reports.moment as created_timestamp,
    reports.file_hit not in ('NO_HIT', 'FROZEN') as bur_file_hit,
    coalesce(of_tradelines.trades_n, 0) < 3 or of_tradelines.oldest_m < 12 as bur_thin_file,
    cast(reports.score as bigint) as bur_score,
    coalesce(of_tradelines.trades_n, 0) as bur_trades_n,
    coalesce(of_tradelines.trades_open_n, 0) as bur_trades_open_n,
    coalesce(of_tradelines.bankcards_open_n, 0) as bur_bc_open_n,
    cast(of_tradelines.oldest_m as bigint) as bur_age_oldest_m,
    cast(of_tradelines.newest_m as bigint) as bur_age_newest_m,
    {{ mean_of_sums('of_tradelines.ages_m', 'of_tradelines.trades_n') }} as bur_age_avg_m,
    coalesce(of_tradelines.opened_6m_n, 0) as bur_opened_6m_n,
    coalesce(of_tradelines.opened_12m_n, 0) as bur_opened_12m_n,
    coalesce(of_inquiries.inquiries_3m_n, 0) as bur_inq_3m_n,
    coalesce(of_inquiries.inquiries_6m_n, 0) as bur_inq_6m_n,
    coalesce(of_inquiries.inquiries_12m_n, 0) as bur_inq_12m_n,
    cast(of_tradelines.revolving_balance_minor as double)
    / nullif(of_tradelines.revolving_limit_minor, 0) as bur_util_rev,
    of_tradelines.bankcard_utilisation_max as bur_util_bc_max,
    coalesce(of_tradelines.bankcards_over_90_n, 0) as bur_bc_over90_n,
    cast(coalesce(of_tradelines.late_30_24m_n, 0) as bigint) as bur_dq30_24m_n,
    cast(coalesce(of_tradelines.late_60_24m_n, 0) as bigint) as bur_dq60_24m_n,
    cast(coalesce(of_tradelines.late_90_24m_n, 0) as bigint) as bur_dq90_24m_n,
    cast(of_tradelines.months_before_late_30 + 1 as bigint) as bur_mths_since_dq30,
    cast(coalesce(of_tradelines.past_due_minor, 0) as bigint) as bur_past_due_minor,
    coalesce(of_tradelines.chargeoff_n, 0) as bur_chargeoff_n,
    coalesce(of_records.collections_n, 0) as bur_collections_n,
    cast(coalesce(of_records.collections_balance_minor, 0) as bigint) as bur_collections_bal_minor,
    coalesce(of_records.public_records_n, 0) as bur_public_records_n,
    cast(of_tradelines.satisfactory_n as double) / nullif(of_tradelines.trades_open_n, 0)
        as bur_sat_pct,
    cast(of_trended.paid_6m_minor as double) / nullif(of_trended.scheduled_6m_minor, 0)
        as bur_pay_ratio_tr_6m,
    cast(coalesce(of_tradelines.monthly_debt_minor, 0) as bigint) as bur_monthly_debt_minor
from reports
left join of_tradelines
    on reports.pull_id = of_tradelines.pull_id and reports.moment = of_tradelines.moment
left join of_trended
    on reports.pull_id = of_trended.pull_id and reports.moment = of_trended.moment
left join of_inquiries
    on reports.pull_id = of_inquiries.pull_id and reports.moment = of_inquiries.moment
left join of_records
    on reports.pull_id = of_records.pull_id and reports.moment = of_records.moment
