select
    payment_id,
    account_id,
    amount_minor,
    currency,
    initiated_at,
    state,
    method,
    settled_at,
    returned_at,
    return_reason,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'payments') }}
