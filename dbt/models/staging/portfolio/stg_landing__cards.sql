select
    card_id,
    account_id,
    updated_at,
    state,
    issued_at,
    activated_at,
    replaced_by,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'cards') }}
