select
    merchant_id,
    updated_at,
    name,
    mcc,
    country,
    city,
    latitude,
    longitude,
    partner_id,
    received_at,
    batch_date,
    file_id,
    line_no,
    record_hash
from {{ source('raw', 'merchants') }}
