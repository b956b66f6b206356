-- A pull whose details arrive or are corrected later gets a further row at that time; the earlier
-- row stays what it was. Ages and windows are up to the day of the first answer.
{{ config(incremental_strategy='delete+insert', unique_key='pull_id') }}

{#
  Payment history, one character a month from the one before the report on: 1-6 are 30 to 180 days
  late, G H J K L are collection, foreclosure, surrender, repossession and charge-off. The month of
  the report is told by the status of the account.
#}
{% set late = {'30': '1-6GHJKL', '60': '2-6GHJKL', '90': '3-6GHJKL'} %}
{% set late_statuses = {
    1: ['71'],
    2: ['78'],
    3: ['80', '82', '83', '84', '88', '89', '93', '94', '95', '96', '97'],
} %}
{% set ended = ['05', '13', '61', '62', '63', '64', '65'] %}
{% set deleted = ['DA', 'DF'] %}
{% set children = {
    'bureau_tradelines': ['pull_id', 'tradeline_id'],
    'bureau_trended': ['pull_id', 'tradeline_id', 'month_on'],
    'bureau_inquiries': ['pull_id', 'inquiry_id'],
    'bureau_records': ['pull_id', 'record_id'],
    'bureau_attributes': ['pull_id', 'attribute_name'],
} %}
{% set feeds = [ref('stg_landing__bureau_pulls')] %}
{% for child in children %}{% do feeds.append(ref('stg_landing__' ~ child)) %}{% endfor %}

with
-- A feed that had not delivered anything yet says nothing: what it brings is null then, not none.
arrivals_by_feed as (
    {% for child in children %}
    select
        '{{ child }}' as feed,
        {% if is_delta() %}
        min(received_at) filter (where file_id not in ({{ new_files() }})) as known_from,
        {% endif %}
        min(received_at) as arrived_at
    from {{ ref('stg_landing__' ~ child) }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

pull_rows as (
    select *
    from {{ ref('stg_landing__bureau_pulls') }}
    {{ where_key_is_new('pull_id', feeds) }}
    {% if is_delta() %}
    or pull_id in (
        select reported.pull_id
        from {{ this }} as reported
        -- What came before all that was known of its feed makes counts of nulls in between.
        inner join arrivals_by_feed as feeds
            on
                reported.event_timestamp >= feeds.arrived_at
                and reported.event_timestamp < coalesce(feeds.known_from, 'infinity')
    )
    {% endif %}
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
        cast(pulls.first_received_at as date) as report_on,
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

arrivals as (
    select
        min(arrived_at) filter (where feed = 'bureau_tradelines') as bureau_tradelines_from,
        min(arrived_at) filter (where feed = 'bureau_trended') as bureau_trended_from,
        min(arrived_at) filter (where feed = 'bureau_inquiries') as bureau_inquiries_from,
        min(arrived_at) filter (where feed = 'bureau_records') as bureau_records_from
    from arrivals_by_feed
),

-- What is older than the law lets a bureau tell (15 U.S.C. 1681c) does not count: a delinquency
-- after seven years, a bankruptcy after ten.
tradelines as (
    select
        reports.pull_id,
        reports.moment,
        child.tradeline_id,
        child.account_status,
        child.first_delinquency_on is not null
        and child.first_delinquency_on < reports.report_on - interval '7' year as is_obsolete,
        coalesce(child.ecoa_code, '') <> '3' as is_own,
        coalesce(
            child.is_open,
            child.closed_on is null
            and coalesce(child.account_status, '11') not in ({{ quoted(ended) }})
        ) as is_open,
        child.portfolio_type = 'R' as is_revolving,
        coalesce(child.account_type = '18', false) as is_bankcard,
        child.balance_minor,
        coalesce(child.past_due_minor, 0) as past_due_minor,
        coalesce(nullif(child.credit_limit_minor, 0), child.highest_credit_minor, 0)
            as limit_minor,
        coalesce(child.scheduled_payment_minor, 0) as scheduled_payment_minor,
        substring(coalesce(child.payment_history, ''), 1, 84) as payment_history,
        case
            {% for level, statuses in late_statuses.items() %}
            when child.account_status in ({{ quoted(statuses) }}) then {{ level }}
            {% endfor %}
            else 0
        end as late_now,
        {% for months in [6, 12, 24] %}
        substring(coalesce(child.payment_history, ''), 1, {{ months }})
            as payment_history_{{ months }}m,
        {% endfor %}
        greatest({{ full_months('child.opened_on', 'reports.report_on') }}, 0) as age_m
    {{ as_reported('bureau_tradelines') }}
    where coalesce(child.account_status, '11') not in ({{ quoted(deleted) }})
),

of_tradelines as (
    select
        pull_id,
        moment,
        count(*) as trades_n,
        count(*) filter (where is_own) as trades_own_n,
        count(*) filter (where is_open) as trades_open_n,
        count(*) filter (where is_open and is_own) as trades_open_own_n,
        count(*) filter (where is_open and is_bankcard) as bankcards_open_n,
        count(*) filter (where is_open and is_bankcard and is_own) as bankcards_open_own_n,
        max(age_m) as oldest_m,
        min(age_m) as newest_m,
        sum(age_m) as ages_m,
        {% for months in [3, 6, 12, 24] %}
        count(*) filter (where age_m < {{ months }}) as opened_{{ months }}m_n,
        {% endfor %}
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
        {% for name, characters in late.items() %}
        {% for months in [6, 12, 24] %}
        sum({{ count_of_characters('payment_history_' ~ months ~ 'm', characters) }})
            as late_{{ name }}_{{ months }}m_n,
        {% endfor %}
        {% set is_late_now = 'late_now >= ' ~ loop.index ~ ' and not is_obsolete' %}
        sum({{ count_of_characters('payment_history', characters) }})
        + count(*) filter (where {{ is_late_now }}) as late_{{ name }}_ever_n,
        min(
            case
                when {{ is_late_now }} then 0
                else {{ count_before_characters('payment_history', characters) }} + 1
            end
        ) filter (
            where
            {{ is_late_now }}
            or {{ count_of_characters('payment_history', characters) }} > 0
        ) as months_since_late_{{ name }},
        {% endfor %}
        max(late_now) filter (where not is_obsolete) as late_now,
        sum(past_due_minor) as past_due_minor,
        count(*) filter (where account_status = '97' and not is_obsolete) as chargeoff_n,
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

told_months as (
    select
        reports.pull_id,
        reports.moment,
        child.tradeline_id,
        child.month_on,
        child.balance_minor,
        child.credit_limit_minor,
        child.actual_payment_minor,
        child.scheduled_payment_minor,
        max(child.month_on) over (partition by reports.pull_id, reports.moment) as newest_on,
        lag(child.month_on) over (by_month) as previous_on,
        lag(child.balance_minor) over (by_month) as balance_before_minor
    {{ as_reported('bureau_trended') }}
    where child.month_on <= reports.report_on
    window
        by_month as (
            partition by reports.pull_id, reports.moment, child.tradeline_id
            order by child.month_on
        )
),

-- The newest twelve months, the last that the report tells being the first.
trended as (
    select
        *,
        {{ full_months('month_on', 'newest_on') }} as age_m,
        case when previous_on + interval '1' month = month_on then balance_before_minor end
            as previous_balance_minor
    from told_months
    where month_on > newest_on - interval '12' month
),

of_trended as (
    select
        pull_id,
        moment,
        {% for months in [3, 6, 12] %}
        sum(actual_payment_minor) filter (
            where age_m < {{ months }} and scheduled_payment_minor is not null
        ) as paid_{{ months }}m_minor,
        sum(scheduled_payment_minor) filter (
            where age_m < {{ months }} and actual_payment_minor is not null
        ) as scheduled_{{ months }}m_minor,
        {% endfor %}
        count(*) filter (where previous_balance_minor > 0 and actual_payment_minor is not null)
            as months_billed_n,
        count(*) filter (
            where previous_balance_minor > 0 and actual_payment_minor >= previous_balance_minor
        ) as months_paid_in_full_n
    from trended
    group by pull_id, moment
),

trended_months as (
    select
        pull_id,
        moment,
        -cast(age_m as bigint) as x,
        cast(sum(balance_minor) as bigint) as balance,
        {{ millionths(
            'sum(balance_minor) filter (where credit_limit_minor > 0)',
            'sum(credit_limit_minor) filter (where balance_minor is not null)'
        ) }} as utilisation
    from trended
    group by pull_id, moment, age_m
),

of_trended_months as (
    select
        pull_id,
        moment,
        {{ relative_slope('x', 'balance') }} as balance_slope,
        {{ relative_slope('x', 'utilisation') }} as utilisation_slope
    from trended_months
    group by pull_id, moment
),

inquiries as (
    select
        reports.pull_id,
        reports.moment,
        reports.report_on,
        child.inquired_on,
        case
            when upper(child.subscriber_kind) in ('AUTO', 'MORTGAGE')
                then
                    lag(child.inquired_on) over (
                        partition by reports.pull_id, reports.moment, upper(child.subscriber_kind)
                        order by child.inquired_on, child.inquiry_id
                    )
        end as shopped_before_on
    {{ as_reported('bureau_inquiries') }}
    where child.inquired_on <= reports.report_on
),

-- Shopping for one car or house loan is one inquiry of a window: same kind, at most 14 days apart.
of_inquiries as (
    select
        {% for months in [1, 3, 6, 12, 24] %}
        {% set since = "report_on - interval '" ~ months ~ "' month" %}
        count(*) filter (
            where inquired_on > {{ since }}
            and not coalesce(
                shopped_before_on > {{ since }}
                and shopped_before_on >= inquired_on - interval '14' day, false
            )
        ) as inquiries_{{ months }}m_n,
        {% endfor %}
        pull_id,
        moment
    from inquiries
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
        count(*) filter (
            where child.kind = 'COLLECTION' and not coalesce(child.is_medical, false)
        ) as collections_nonmedical_n,
        count(*) filter (where child.kind <> 'COLLECTION') as public_records_n,
        min({{ full_months('child.filed_on', 'reports.report_on') }}) filter (
            where child.kind = 'BANKRUPTCY' and child.filed_on <= reports.report_on
        ) as months_since_bankruptcy
    {{ as_reported('bureau_records') }}
    where
        child.filed_on is null
        or child.filed_on >= reports.report_on - interval '7' year
        or (
            child.kind = 'BANKRUPTCY'
            and child.filed_on >= reports.report_on - interval '10' year
        )
    group by reports.pull_id, reports.moment
),

-- Which attributes a vendor computes is the vendor's: they are kept by name, as an object of JSON.
-- Special codes are texts beside the numbers, so that no code can pass for a value.
attributes as (
    select
        reports.pull_id,
        reports.moment,
        {{ json_text('child.attribute_name') }} || ':'
        || coalesce(
            {{ json_text('child.special_code') }},
            -- JSON has no infinities and no NaN.
            case
                when child.value between -1e300 and 1e300 then cast(child.value as varchar)
            end,
            'null'
        ) as told
    {{ as_reported('bureau_attributes') }}
),

of_attributes as (
    select
        pull_id,
        moment,
        '{' || {{ sorted_texts('told') }} || '}' as attributes
    from attributes
    group by pull_id, moment
)

select
    reports.pull_id,
    reports.moment as event_timestamp,
    reports.moment as created_timestamp,
    reports.file_hit not in ('NO_HIT', 'FROZEN') as bur_file_hit,
    case
        when reports.moment >= arrivals.bureau_tradelines_from
            then coalesce(of_tradelines.trades_n, 0) < 3 or of_tradelines.oldest_m < 12
    end as bur_thin_file,
    cast(reports.score as bigint) as bur_score,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.trades_n') }} as bur_trades_n,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.trades_own_n') }}
        as bur_trades_own_n,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.trades_open_n') }}
        as bur_trades_open_n,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.trades_open_own_n') }}
        as bur_trades_open_own_n,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.bankcards_open_n') }}
        as bur_bc_open_n,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.bankcards_open_own_n') }}
        as bur_bc_open_own_n,
    cast(of_tradelines.oldest_m as bigint) as bur_age_oldest_m,
    cast(of_tradelines.newest_m as bigint) as bur_age_newest_m,
    {{ mean_of_sums('of_tradelines.ages_m', 'of_tradelines.trades_n') }} as bur_age_avg_m,
    {% for months in [3, 6, 12, 24] %}
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.opened_' ~ months ~ 'm_n') }}
        as bur_opened_{{ months }}m_n,
    {% endfor %}
    {% for months in [1, 3, 6, 12, 24] %}
    {{ count_since_arrival('bureau_inquiries', 'of_inquiries.inquiries_' ~ months ~ 'm_n') }}
        as bur_inq_{{ months }}m_n,
    {% endfor %}
    cast(of_tradelines.revolving_balance_minor as double)
    / nullif(of_tradelines.revolving_limit_minor, 0) as bur_util_rev,
    of_tradelines.bankcard_utilisation_max as bur_util_bc_max,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.bankcards_over_90_n') }}
        as bur_bc_over90_n,
    {% for name in late %}
    {% for window in ['6m', '12m', '24m', 'ever'] %}
    {% set column = 'of_tradelines.late_' ~ name ~ '_' ~ window ~ '_n' %}
    {{ count_since_arrival('bureau_tradelines', column) }}
        as bur_dq{{ name }}_{{ window }}_n,
    {% endfor %}
    cast(of_tradelines.months_since_late_{{ name }} as bigint) as bur_mths_since_dq{{ name }},
    {% endfor %}
    cast(
        case
            when not reports.moment >= arrivals.bureau_tradelines_from then null
            when of_tradelines.late_90_24m_n > 0 or of_tradelines.late_now >= 3 then 3
            when of_tradelines.late_60_24m_n > 0 or of_tradelines.late_now >= 2 then 2
            when of_tradelines.late_30_24m_n > 0 or of_tradelines.late_now >= 1 then 1
            else 0
        end as bigint
    ) as bur_worst_status_24m,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.past_due_minor') }}
        as bur_past_due_minor,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.chargeoff_n') }}
        as bur_chargeoff_n,
    {{ count_since_arrival('bureau_records', 'of_records.collections_n') }}
        as bur_collections_n,
    {{ count_since_arrival('bureau_records', 'of_records.collections_balance_minor') }}
        as bur_collections_bal_minor,
    {{ count_since_arrival('bureau_records', 'of_records.collections_nonmedical_n') }}
        as bur_collections_nonmed_n,
    {{ count_since_arrival('bureau_records', 'of_records.public_records_n') }}
        as bur_public_records_n,
    cast(of_records.months_since_bankruptcy as bigint) as bur_mths_since_bk,
    cast(of_tradelines.satisfactory_n as double) / nullif(of_tradelines.trades_open_n, 0)
        as bur_sat_pct,
    {% for months in [3, 6, 12] %}
    cast(of_trended.paid_{{ months }}m_minor as double)
    / nullif(of_trended.scheduled_{{ months }}m_minor, 0) as bur_pay_ratio_tr_{{ months }}m,
    {% endfor %}
    of_trended_months.balance_slope as bur_bal_slope_tr_12m,
    of_trended_months.utilisation_slope as bur_util_slope_tr_12m,
    cast(of_trended.months_paid_in_full_n as double) / nullif(of_trended.months_billed_n, 0)
        as bur_transactor_tr_12m,
    {{ count_since_arrival('bureau_tradelines', 'of_tradelines.monthly_debt_minor') }}
        as bur_monthly_debt_minor,
    of_attributes.attributes as bur_attributes
from reports
cross join arrivals
left join of_tradelines
    on reports.pull_id = of_tradelines.pull_id and reports.moment = of_tradelines.moment
left join of_trended
    on reports.pull_id = of_trended.pull_id and reports.moment = of_trended.moment
left join of_trended_months
    on
        reports.pull_id = of_trended_months.pull_id
        and reports.moment = of_trended_months.moment
left join of_inquiries
    on reports.pull_id = of_inquiries.pull_id and reports.moment = of_inquiries.moment
left join of_records
    on reports.pull_id = of_records.pull_id and reports.moment = of_records.moment
left join of_attributes
    on reports.pull_id = of_attributes.pull_id and reports.moment = of_attributes.moment
