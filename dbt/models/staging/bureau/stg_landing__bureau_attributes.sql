select
    pull_id,
    attribute_name,
    value,
    special_code,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'bureau_attributes') }}
