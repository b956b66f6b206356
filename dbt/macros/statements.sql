{# What posted in the periods of the statements in `relation` beside what these say. #}
{% macro statements_compared(relation) -%}
with statements as (
    select * from {{ relation }}
),

posted as (
    select
        event_id,
        account_id,
        posted_on,
        transaction_class,
        direction,
        case when direction = 'DEBIT' then amount_minor else -amount_minor end as signed_minor
    from {{ ref('int_posted_events__classified') }}
),

-- Credits count as they are: one that is taken back is another debit, as is a returned payment, and
-- other debits are not compared. Every other total is net of what goes the other way.
{% set totals = {
    'purchases': ['PURCHASE'],
    'cash_advances': ['CASH_ADVANCE', 'QUASI_CASH', 'CONVENIENCE_CHECK'],
    'balance_transfers': ['BALANCE_TRANSFER'],
    'fees': ['FEE'],
    'interest': ['INTEREST'],
} %}
{% set credits = ['REFUND', 'REWARD_CREDIT', 'DISPUTE_PROVISIONAL_CREDIT', 'CHARGEBACK'] %}

posted_totals as (
    select
        statements.statement_id,
        {% for total, classes in totals.items() %}
        cast(
            coalesce(
                sum(posted.signed_minor) filter (
                    where posted.transaction_class in ({{ quoted(classes) }})
                ), 0
            ) as bigint
        ) as posted_{{ total }}_minor,
        {% endfor %}
        cast(
            coalesce(
                -sum(posted.signed_minor) filter (
                    where posted.transaction_class in ({{ quoted(credits) }})
                    and posted.direction = 'CREDIT'
                ), 0
            ) as bigint
        ) as posted_credits_minor,
        count(posted.event_id) as posted_event_count
    from statements
    left join posted
        on
            statements.account_id = posted.account_id
            and statements.period_start_on <= posted.posted_on
            and statements.period_end_on >= posted.posted_on
    group by statements.statement_id
)

select
    statements.statement_id,
    statements.account_id,
    statements.period_start_on,
    statements.period_end_on,
    statements.currency,
    posted_totals.posted_event_count,
    {% for total in (totals.keys() | list) + ['credits'] %}
    statements.{{ total }}_minor,
    posted_totals.posted_{{ total }}_minor,
    {% endfor %}
    statements.file_id,
    statements.received_at
from statements
inner join posted_totals on statements.statement_id = posted_totals.statement_id
{%- endmacro %}
