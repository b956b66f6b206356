select
    pull_id,
    record_id,
    kind,
    filed_on,
    resolved_on,
    amount_minor,
    currency,
    is_medical,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'bureau_records') }}
