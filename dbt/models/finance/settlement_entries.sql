-- One row per network, settlement date, currency and account line: what a day's settlement with a
-- network does to the general ledger. 1010, the clearing account, takes what the details say is
-- owed and what the network's total says was paid: it is zero for every date that has settled.
--
-- Amounts have the signs of the feed: net = gross − interchange − charges, so charges above zero
-- lower what is paid. Interchange is summed in millionths and rounded once a network and day; a
-- total that was rounded in another way differs by less than a unit and is taken as it is. Charges
-- are those of the FEE lines, or the total's where a network sends no such lines.
{{ config(tags=['finance']) }}

with details as (
    select
        network,
        report_on,
        currency,
        sum(case when direction = 'DEBIT' then amount_minor else -amount_minor end) filter (
            where type <> 'FEE'
        ) as gross_minor,
        sum(
            case when direction = 'DEBIT' then 1 else -1 end * coalesce(interchange_micros, 0)
        ) filter (where type <> 'FEE') as interchange_micros,
        sum(case when direction = 'DEBIT' then amount_minor else -amount_minor end) filter (
            where type = 'FEE'
        ) as fees_minor
    from {{ ref('fct_settlement_details') }}
    group by all
),

totals as (
    select
        network,
        report_on,
        currency,
        sum(interchange_minor) as interchange_minor,
        sum(charges_minor) as charges_minor,
        sum(net_minor) as net_minor
    from {{ ref('fct_settlement_totals') }}
    where coalesce(is_complete, true)
    group by all
),

settled as (
    select
        coalesce(details.network, totals.network) as network,
        coalesce(details.report_on, totals.report_on) as report_on,
        coalesce(details.currency, totals.currency) as currency,
        coalesce(details.gross_minor, 0) as gross_minor,
        case
            when
                abs(
                    coalesce(details.interchange_micros, 0) - totals.interchange_minor * 1000000
                ) < 1000000
                then totals.interchange_minor
            else {{ money_from_points('coalesce(details.interchange_micros, 0)', '1') }}
        end as interchange_minor,
        coalesce(details.fees_minor, totals.charges_minor, 0) as charges_minor,
        totals.net_minor
    from details
    full join totals
        on
            details.network = totals.network
            and details.report_on = totals.report_on
            and details.currency = totals.currency
),

{# Source, line, account, signed amount (debit positive). #}
{% set lines = [
    ('GROSS', 1, '1300', 'gross_minor'),
    ('GROSS', 2, '1010', '-gross_minor'),
    ('INTERCHANGE', 1, '1010', 'interchange_minor'),
    ('INTERCHANGE', 2, '4010', '-interchange_minor'),
    ('CHARGES', 1, '1010', 'charges_minor'),
    ('CHARGES', 2, '5300', '-charges_minor'),
    ('NET', 1, '1010', 'coalesce(net_minor, 0)'),
    ('NET', 2, '1020', '-coalesce(net_minor, 0)'),
] %}
lines as (
    {% for source, line_no, account, amount in lines %}
    select
        network,
        report_on,
        currency,
        '{{ source }}' as source,
        {{ line_no }} as line_no,
        '{{ account }}' as account_code,
        {{ amount }} as amount_minor
    from settled
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

accounts as (
    {{ chart_of_accounts() }}
)

select
    lines.network || ':' || lines.report_on || ':' || lines.currency || ':' || lines.source || ':'
    || lines.line_no as entry_id,
    lines.network,
    lines.report_on,
    strftime(lines.report_on, '%Y-%m') as period,
    lines.source,
    cast(lines.line_no as integer) as line_no,
    lines.account_code,
    accounts.gl_account,
    accounts.account_name,
    cast(greatest(lines.amount_minor, 0) as bigint) as debit_minor,
    cast(greatest(-lines.amount_minor, 0) as bigint) as credit_minor,
    lines.currency
from lines
inner join accounts on lines.account_code = accounts.account_code
where lines.amount_minor <> 0
