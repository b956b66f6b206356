select
    customer_id,
    updated_at,
    person_id,
    birth_year,
    state,
    postal_code,
    latitude,
    longitude,
    email_hash,
    phone_hash,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'customers') }}
