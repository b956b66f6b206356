select
    pull_id,
    person_id,
    requested_at,
    application_id,
    account_id,
    bureau,
    pull_type,
    file_hit,
    score_name,
    score,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'bureau_pulls') }}
