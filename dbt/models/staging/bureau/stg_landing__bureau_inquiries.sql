select
    pull_id,
    inquiry_id,
    inquired_on,
    subscriber_kind,
    purpose,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'bureau_inquiries') }}
