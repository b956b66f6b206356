select
    acknowledgement_id,
    program_id,
    partner_id,
    period,
    points,
    status,
    reason,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'partner_acknowledgements') }}
