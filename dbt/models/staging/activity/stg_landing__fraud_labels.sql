select
    label_id,
    transaction_id,
    label,
    occurred_at,
    known_at,
    fraud_type,
    source,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'fraud_labels') }}
