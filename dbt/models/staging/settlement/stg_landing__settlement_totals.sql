select
    total_id,
    network,
    report_on,
    currency,
    gross_minor,
    interchange_minor,
    charges_minor,
    net_minor,
    is_complete,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'settlement_totals') }}
