select
    outcome_id,
    application_id,
    account_id,
    is_bad,
    observed_on,
    known_at,
    definition,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'credit_outcomes') }}
