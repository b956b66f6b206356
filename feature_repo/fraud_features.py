"""Features of fraud detection: how often, how much, where and how risky.

Windows of days hop at midnight (UTC): a window of W days of a row with event_timestamp T covers the
days that end at or before T. Windows of up to 24 hours are exact: `authorization_windows` counts
them at the request from the logs of the views `<entity>_recent_features`, which pushes join online.
The schema here is the one declaration of what Feast serves; no view has a TTL (rows are change
events).
"""

from data_sources import (
    account_amount_source,
    account_contact_source,
    account_history_source,
    account_limit_source,
    account_mcc_source,
    account_merchant_source,
    account_recent_source,
    account_redemption_source,
    card_recent_source,
    card_state_source,
    card_velocity_source,
    device_recent_source,
    device_risk_source,
    ip_recent_source,
    ip_risk_source,
    mcc_risk_source,
    merchant_recent_source,
    merchant_risk_source,
)
from entities import account, account_mcc, account_merchant, card, device, ip, mcc, merchant
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String

VELOCITY_DAYS = (1, 7, 30)
RISK_DAYS = (1, 7, 30, 90)
DISTINCT_DAYS = (1, 30)


def _risk(prefix: str, count: str, velocity: str, *, has_cards: bool = True) -> list[Field]:
    """Transactions and known frauds by window, then amounts, declines and different cards."""
    fields = []
    for days in RISK_DAYS:
        fields += [
            Field(name=f"{prefix}{count}_{days}d", dtype=Int64),
            Field(name=f"{prefix}fraud_count_{days}d", dtype=Int64),
            Field(name=f"{prefix}fraud_rate_{days}d", dtype=Float64),
        ]
    for days in VELOCITY_DAYS:
        fields += [
            Field(name=f"{velocity}_amount_{days}d_minor", dtype=Int64),
            Field(name=f"{velocity}_declined_count_{days}d", dtype=Int64),
        ]
    if has_cards:
        for days in DISTINCT_DAYS:
            fields.append(Field(name=f"{velocity}_card_count_{days}d", dtype=Int64))
    return fields


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
        Field(name="declined_count_30d", dtype=Int64),
        *(
            Field(name=f"card_{entity}_count_{days}d", dtype=Int64)
            for entity in ("merchant", "mcc", "country")
            for days in DISTINCT_DAYS
        ),
        Field(name="authorization_amount_max_30d_minor", dtype=Int64),
    ],
    source=card_velocity_source,
)

card_recent_features = FeatureView(
    name="card_recent_features",
    description="One row per card and time at which something about it was heard: its log of 24 "
    "hours and its last use, for what is computed at the request.",
    entities=[card],
    ttl=None,
    schema=[
        Field(name="card_id", dtype=String),
        Field(name="recent_authorizations", dtype=String),
        Field(name="last_used_us", dtype=Int64),
        Field(name="last_declined_us", dtype=Int64),
        Field(name="last_place", dtype=String),
    ],
    source=card_recent_source,
)


def _recent(entity: Entity, source: FileSource) -> FeatureView:
    """The log of an entity, for what is computed at the request."""
    return FeatureView(
        name=f"{entity.name}_recent_features",
        description=f"One row per {entity.name} and time at which something about it was heard: "
        "its log of 24 hours, for what is computed at the request.",
        entities=[entity],
        ttl=None,
        schema=[
            Field(name=entity.join_key, dtype=String),
            Field(name=f"{entity.name}_recent_authorizations", dtype=String),
        ],
        source=source,
    )


account_recent_features = _recent(account, account_recent_source)
merchant_recent_features = _recent(merchant, merchant_recent_source)
device_recent_features = _recent(device, device_recent_source)
ip_recent_features = _recent(ip, ip_recent_source)

account_amount_features = FeatureView(
    name="account_amount_features",
    description="One row per account, day of change and known time: usual amounts and velocity.",
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
        *(
            Field(name=name, dtype=Int64)
            for days in VELOCITY_DAYS
            for name in (
                f"account_count_{days}d",
                f"account_declined_count_{days}d",
                f"account_amount_{days}d_minor",
            )
        ),
    ],
    source=account_amount_source,
)

account_history_features = FeatureView(
    name="account_history_features",
    description="One row per account and time at which it used something new: categories, "
    "countries and devices that it has used.",
    entities=[account],
    ttl=None,
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="known_mccs", dtype=String),
        Field(name="known_countries", dtype=String),
        Field(name="known_devices", dtype=String),
    ],
    source=account_history_source,
)

account_contact_features = FeatureView(
    name="account_contact_features",
    description="One row per account and time at which its customer's home or the last change of "
    "how to reach them was known to be another.",
    entities=[account],
    ttl=None,
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="home_latitude", dtype=Float64),
        Field(name="home_longitude", dtype=Float64),
        Field(name="address_changed_us", dtype=Int64),
        Field(name="phone_changed_us", dtype=Int64),
        Field(name="email_changed_us", dtype=Int64),
    ],
    source=account_contact_source,
)

account_limit_features = FeatureView(
    name="account_limit_features",
    description="One row per account and time at which another credit limit was known.",
    entities=[account],
    ttl=None,
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="credit_limit_minor", dtype=Int64),
        Field(name="previous_limit_minor", dtype=Int64),
        Field(name="limit_changed_us", dtype=Int64),
    ],
    source=account_limit_source,
)

account_redemption_features = FeatureView(
    name="account_redemption_features",
    description="One row per account and time at which a redemption was heard of: those of 7 days.",
    entities=[account],
    ttl=None,
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="recent_redemptions", dtype=String),
    ],
    source=account_redemption_source,
)

card_state_features = FeatureView(
    name="card_state_features",
    description="One row per card and time at which a state of it was known.",
    entities=[card],
    ttl=None,
    schema=[
        Field(name="card_id", dtype=String),
        Field(name="issued_us", dtype=Int64),
        Field(name="activated_us", dtype=Int64),
    ],
    source=card_state_source,
)

account_merchant_features = FeatureView(
    name="account_merchant_features",
    description="One row per account, merchant and time at which something about both was heard: "
    "since when the one has used the other, and their log of 90 days.",
    entities=[account_merchant],
    ttl=None,
    schema=[
        Field(name="account_merchant_key", dtype=String),
        Field(name="first_used_us", dtype=Int64),
        Field(name="merchant_recent_uses", dtype=String),
    ],
    source=account_merchant_source,
)

account_mcc_features = FeatureView(
    name="account_mcc_features",
    description="One row per account, category and time at which something about both was heard: "
    "their log of 90 days.",
    entities=[account_mcc],
    ttl=None,
    schema=[
        Field(name="account_mcc_key", dtype=String),
        Field(name="mcc_recent_uses", dtype=String),
    ],
    source=account_mcc_source,
)

merchant_risk_features = FeatureView(
    name="merchant_risk_features",
    description="One row per merchant, day of change and known time: volume and known fraud.",
    entities=[merchant],
    ttl=None,
    schema=[
        Field(name="merchant_id", dtype=String),
        *_risk("", "transaction_count", "merchant"),
    ],
    source=merchant_risk_source,
)

mcc_risk_features = FeatureView(
    name="mcc_risk_features",
    description="One row per category, day of change and known time: volume and known fraud.",
    entities=[mcc],
    ttl=None,
    schema=[Field(name="mcc_key", dtype=String), *_risk("mcc_", "count", "mcc", has_cards=False)],
    source=mcc_risk_source,
)

device_risk_features = FeatureView(
    name="device_risk_features",
    description="One row per device, day of change and known time: volume and known fraud.",
    entities=[device],
    ttl=None,
    schema=[Field(name="device_key", dtype=String), *_risk("device_", "count", "device")],
    source=device_risk_source,
)

ip_risk_features = FeatureView(
    name="ip_risk_features",
    description="One row per internet address, day of change and known time: volume and fraud.",
    entities=[ip],
    ttl=None,
    schema=[Field(name="ip_key", dtype=String), *_risk("ip_", "count", "ip")],
    source=ip_risk_source,
)
