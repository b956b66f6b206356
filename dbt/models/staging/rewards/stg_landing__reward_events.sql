select
    reward_event_id,
    account_id,
    program_id,
    kind,
    event_at,
    points,
    reference,
    offer_id,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'reward_events') }}
