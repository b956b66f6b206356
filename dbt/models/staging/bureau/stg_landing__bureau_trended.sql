select
    pull_id,
    tradeline_id,
    month_on,
    balance_minor,
    credit_limit_minor,
    scheduled_payment_minor,
    actual_payment_minor,
    days_past_due,
    currency,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'bureau_trended') }}
