-- One row per program, period, source and account line: the journal that the general ledger takes
-- over for a month. Every source balances by itself.
--
-- 2100 carries what members are owed, 1220 what members with a balance below zero owe: 2100 less
-- 1220 is the closing liability of the roll-forward. Amounts come from the roll-forward and the
-- invoice lines as they are. A redemption takes its points from the liability at their value; where
-- the terms tell another cost of a redeemed point, that is paid and the difference is rewards cost.
{{ config(tags=['finance']) }}

with rollforward as (
    select * from {{ ref('liability_rollforward') }}
),

terms as (
    select * from {{ ref('int_program_terms__by_period') }}
),

invoices as (
    select
        program_id,
        period,
        coalesce(sum(amount_minor) filter (where component = 'PARTNER_FUNDING'), 0)
            as funded_minor,
        coalesce(-sum(amount_minor) filter (where component = 'PARTNER_FUNDING_REVERSAL'), 0)
            as funding_reversed_minor,
        coalesce(sum(amount_minor) filter (where component = 'POINT_PURCHASE'), 0)
            as purchased_minor,
        coalesce(
            sum(amount_minor) filter (
                where rate_card_version is not null and direction = 'PAYABLE'
                and component <> 'POINT_PURCHASE'
            ), 0
        ) as share_owed_minor,
        coalesce(
            sum(amount_minor) filter (
                where rate_card_version is not null and direction = 'RECEIVABLE'
            ), 0
        ) as share_due_minor
    from {{ ref('partner_invoice_lines') }}
    group by program_id, period
),

deficits as (
    select
        rollforward.program_id,
        rollforward.period,
        rollforward.point_value_micros,
        sum(coalesce(changes.deficit_change_points, 0)) over (
            partition by rollforward.program_id order by rollforward.period
        ) as deficit_points
    from rollforward
    left join {{ ref('int_rewards__deficits_summed') }} as changes
        on
            rollforward.program_id = changes.program_id
            and rollforward.period = changes.period
),

deficits_valued as (
    select
        *,
        {{ money_from_points('deficit_points', 'point_value_micros') }} as deficit_minor
    from deficits
),

deficits_moved as (
    select
        program_id,
        period,
        deficit_minor - coalesce(
            lag(deficit_minor) over (partition by program_id order by period), 0
        ) as deficit_change_minor
    from deficits_valued
),

amounts as (
    select
        rollforward.*,
        terms.settlement_model,
        terms.presentation,
        case
            when terms.redemption_cost_micros <> rollforward.point_value_micros
                then {{ money_from_points(
                    'rollforward.redeemed_points', 'terms.redemption_cost_micros'
                ) }}
            else rollforward.redeemed_minor
        end as redemption_cost_minor,
        {{ share_of_money('rollforward.accrued_minor', 'terms.provision_bps') }}
            as provision_issued_minor,
        coalesce(invoices.funded_minor, 0) as funded_minor,
        coalesce(invoices.funding_reversed_minor, 0) as funding_reversed_minor,
        coalesce(invoices.purchased_minor, 0) as purchased_minor,
        coalesce(invoices.share_owed_minor, 0) as share_owed_minor,
        coalesce(invoices.share_due_minor, 0) as share_due_minor,
        deficits_moved.deficit_change_minor
    from rollforward
    inner join terms
        on rollforward.program_id = terms.program_id and rollforward.period = terms.period
    left join invoices
        on rollforward.program_id = invoices.program_id and rollforward.period = invoices.period
    inner join deficits_moved
        on
            rollforward.program_id = deficits_moved.program_id
            and rollforward.period = deficits_moved.period
),

{# Source, line, account, signed amount (debit positive). The cost account follows the program's
   presentation: 4090, a reduction of income, or 5010, an expense. #}
{% set lines = [
    ('ACCRUAL', 1, 'cost', 'accrued_minor - funded_minor'),
    ('ACCRUAL', 2, '1210', 'funded_minor'),
    ('ACCRUAL', 3, '2100', '-accrued_minor'),
    ('PROVISION', 1, '2190', 'provision_issued_minor'),
    ('PROVISION', 2, 'cost', '-provision_issued_minor'),
    ('CLAWBACK', 1, '2100', 'clawed_back_minor'),
    ('CLAWBACK', 2, 'cost', '-(clawed_back_minor - funding_reversed_minor)'),
    ('CLAWBACK', 3, '1210', '-funding_reversed_minor'),
    ('PROVISION_REVERSAL', 1, 'cost', 'provision_issued_minor - provision_minor'),
    ('PROVISION_REVERSAL', 2, '2190', '-(provision_issued_minor - provision_minor)'),
    ('REDEMPTION', 1, '2100', 'redeemed_minor'),
    ('REDEMPTION', 2, 'payout', '-redemption_cost_minor'),
    ('REDEMPTION', 3, 'cost', 'redemption_cost_minor - redeemed_minor'),
    ('TRANSFER', 1, '2100', 'transferred_minor'),
    ('TRANSFER', 2, '2200', '-purchased_minor'),
    ('TRANSFER', 3, 'cost', 'purchased_minor - transferred_minor'),
    ('EXPIRY', 1, '2100', 'expired_minor'),
    ('EXPIRY', 2, '2190', '-expired_minor'),
    ('FORFEITURE', 1, '2100', 'forfeited_minor'),
    ('FORFEITURE', 2, '2190', '-forfeited_minor'),
    ('ADJUSTMENT', 1, '5200', 'adjusted_minor - revalued_minor'),
    ('ADJUSTMENT', 2, '2100', '-(adjusted_minor - revalued_minor)'),
    ('WRITE_OFF', 1, '5100', 'written_off_minor'),
    ('WRITE_OFF', 2, '2100', '-written_off_minor'),
    ('REVALUATION', 1, 'cost', 'revalued_minor'),
    ('REVALUATION', 2, '2100', '-revalued_minor'),
    ('REESTIMATE', 1, '2190', 'reestimate_minor'),
    ('REESTIMATE', 2, '4095', '-reestimate_minor'),
    ('NEGATIVE_BALANCES', 1, '1220', 'deficit_change_minor'),
    ('NEGATIVE_BALANCES', 2, '2100', '-deficit_change_minor'),
    ('PARTNER_SHARE', 1, '5020', 'share_owed_minor'),
    ('PARTNER_SHARE', 2, '2210', '-share_owed_minor'),
    ('PARTNER_FUNDS', 1, '1210', 'share_due_minor'),
    ('PARTNER_FUNDS', 2, '4200', '-share_due_minor'),
] %}
lines as (
    {% for source, line_no, account, amount in lines %}
    select
        program_id,
        period,
        currency,
        version,
        '{{ source }}' as source,
        {{ line_no }} as line_no,
        {% if account == 'payout' -%}
        case when settlement_model = 'STATEMENT_CREDIT' then '1300' else '2300' end
        {%- elif account == 'cost' -%}
        case when presentation = 'EXPENSE' then '5010' else '4090' end
        {%- else -%}
        '{{ account }}'
        {%- endif %} as account_code,
        {{ amount }} as amount_minor
    from amounts
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

accounts as (
    {{ chart_of_accounts() }}
)

select
    lines.program_id || ':' || lines.period || ':' || lines.source || ':' || lines.line_no
        as entry_id,
    lines.program_id,
    lines.period,
    lines.source,
    cast(lines.line_no as integer) as line_no,
    lines.account_code,
    accounts.gl_account,
    accounts.account_name,
    cast(greatest(lines.amount_minor, 0) as bigint) as debit_minor,
    cast(greatest(-lines.amount_minor, 0) as bigint) as credit_minor,
    lines.currency,
    lines.version
from lines
inner join accounts on lines.account_code = accounts.account_code
where lines.amount_minor <> 0
