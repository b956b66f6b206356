"""Features of fraud detection: how often, how much and where, by day.

A window of W days of a row with event_timestamp T covers the days that end at or before T. The
schema here is the one declaration of what Feast serves; no view has a TTL (rows are change events).
"""

from data_sources import account_amount_source, card_velocity_source, merchant_risk_source
from entities import account, card, merchant
from feast import FeatureView, Field
from feast.types import Float64, Int64, String

card_velocity_features = FeatureView(
    name="card_velocity_features",
    description="One row per card, day of change and known time: authorizations and declines.",
    entities=[card],
    ttl=None,
    schema=[
        Field(name="card_id", dtype=String),
        Field(name="authorization_count_1d", dtype=Int64),
        Field(name="authorization_count_7d", dtype=Int64),
        Field(name="authorization_count_30d", dtype=Int64),
        Field(name="authorization_amount_1d_minor", dtype=Int64),
        Field(name="authorization_amount_7d_minor", dtype=Int64),
        Field(name="authorization_amount_30d_minor", dtype=Int64),
        Field(name="declined_count_1d", dtype=Int64),
        Field(name="declined_count_7d", dtype=Int64),
        Field(name="authorization_amount_max_30d_minor", dtype=Int64),
    ],
    source=card_velocity_source,
)

account_amount_features = FeatureView(
    name="account_amount_features",
    description="One row per account, day of change and known time: usual transaction amounts.",
    entities=[account],
    ttl=None,
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="amount_count_30d", dtype=Int64),
        Field(name="amount_mean_30d_minor", dtype=Float64),
        Field(name="amount_stddev_30d_minor", dtype=Float64),
        Field(name="amount_max_30d_minor", dtype=Int64),
        Field(name="amount_count_90d", dtype=Int64),
        Field(name="amount_mean_90d_minor", dtype=Float64),
        Field(name="amount_stddev_90d_minor", dtype=Float64),
    ],
    source=account_amount_source,
)

merchant_risk_features = FeatureView(
    name="merchant_risk_features",
    description="One row per merchant, day of change and known time: volume and known fraud.",
    entities=[merchant],
    ttl=None,
    schema=[
        Field(name="merchant_id", dtype=String),
        Field(name="transaction_count_1d", dtype=Int64),
        Field(name="transaction_count_7d", dtype=Int64),
        Field(name="transaction_count_30d", dtype=Int64),
        Field(name="transaction_count_90d", dtype=Int64),
        Field(name="fraud_count_7d", dtype=Int64),
        Field(name="fraud_count_30d", dtype=Int64),
        Field(name="fraud_count_90d", dtype=Int64),
        Field(name="fraud_rate_30d", dtype=Float64),
        Field(name="fraud_rate_90d", dtype=Float64),
    ],
    source=merchant_risk_source,
)
