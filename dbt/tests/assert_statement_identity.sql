-- Closing balance = opening balance + what was charged - what was paid and credited, to the cent,
-- for every statement that gives all of it. A source that gives balances only claims nothing.
select
    statement_id,
    account_id,
    period_end_on,
    opening_balance_minor,
    closing_balance_minor
from {{ written_rows(ref('fct_statements')) }}
where
    closing_balance_minor
    <> opening_balance_minor
    + purchases_minor + cash_advances_minor + balance_transfers_minor
    + fees_minor + interest_minor + other_debits_minor
    - payments_minor - credits_minor
