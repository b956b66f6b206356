-- R3: a statement's totals are what posted in its period. In a daily run: of the statements that it
-- wrote. A total that a source does not give, and an account without messages, are not compared.
{{ config(severity='warn') }}

select
    statement_id,
    account_id,
    period_end_on
from ({{ statements_compared(written_rows(ref('fct_statements')) ~ ' as written') }}) as compared
where
    posted_event_count > 0
    and (
        purchases_minor <> posted_purchases_minor
        or cash_advances_minor <> posted_cash_advances_minor
        or balance_transfers_minor <> posted_balance_transfers_minor
        or fees_minor <> posted_fees_minor
        or interest_minor <> posted_interest_minor
        or credits_minor <> posted_credits_minor
    )
