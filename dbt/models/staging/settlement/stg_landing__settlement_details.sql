select
    detail_id,
    network,
    report_on,
    type,
    amount_minor,
    currency,
    direction,
    transaction_id,
    event_id,
    interchange_micros,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'settlement_details') }}
