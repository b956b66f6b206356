"""What models ask for: one service per model version, unchanged once a model is trained on it.

A service has what its model uses of a view; the rest of the view is there for whoever asks for it
by name (`view:feature`).
"""

from typing import TypeVar

from credit_risk_features import (
    account_payment_features,
    customer_application_features,
    pull_application_features,
    pull_bureau_features,
)
from credit_risk_on_demand import application_affordability
from feast import FeatureService, FeatureView, OnDemandFeatureView
from fraud_features import (
    account_amount_features,
    card_velocity_features,
    device_risk_features,
    ip_risk_features,
    mcc_risk_features,
    merchant_risk_features,
)
from fraud_on_demand import (
    authorization_account_state,
    authorization_context,
    authorization_habits,
    authorization_novelty,
    authorization_travel,
    authorization_windows,
)

_View = TypeVar("_View", FeatureView, OnDemandFeatureView)
_USUAL_AMOUNTS = [
    "amount_count_30d",
    "amount_mean_30d_minor",
    "amount_stddev_30d_minor",
    "amount_max_30d_minor",
    "amount_count_90d",
    "amount_mean_90d_minor",
    "amount_stddev_90d_minor",
]
_ACCOUNT_VELOCITY = [
    f"account_{measure}_{days}d{unit}"
    for days in (1, 7)
    for measure, unit in (("count", ""), ("declined_count", ""), ("amount", "_minor"))
]
_MERCHANT = [
    "transaction_count_1d",
    "transaction_count_7d",
    "transaction_count_30d",
    "transaction_count_90d",
    "fraud_count_7d",
    "fraud_count_30d",
    "fraud_count_90d",
    "fraud_rate_30d",
    "fraud_rate_90d",
    "merchant_declined_count_1d",
    "merchant_card_count_1d",
]
# Of up to a day before the authorization: of the card all, of the others these.
_WINDOWS = [
    *(
        f"{entity}_{measure}"
        for entity, windows in {
            "card": ("15m", "1h", "24h"),
            "account": ("1h", "24h"),
            "merchant": ("15m", "1h"),
            "device": ("1h", "24h"),
            "ip": ("1h", "24h"),
        }.items()
        for window in windows
        for measure in (
            f"count_{window}",
            f"declined_count_{window}",
            *([f"amount_{window}_minor"] if entity in ("card", "account") else []),
        )
    ),
    "seconds_since_used",
    "seconds_since_declined",
    "age_s",
]


def _of_place(entity: str) -> list[str]:
    """What the model uses of a device or an address."""
    return [
        f"{entity}_count_1d",
        f"{entity}_count_30d",
        f"{entity}_declined_count_1d",
        f"{entity}_card_count_1d",
        f"{entity}_card_count_30d",
        f"{entity}_fraud_rate_90d",
    ]


def _only(view: _View, names: list[str]) -> _View:
    """`view` with these features alone."""
    chosen = view[names]
    assert chosen is not None
    return chosen


underwriting_v1 = FeatureService(
    name="underwriting_v1",
    description="By pull_id and customer_id, with what the applicant states.",
    features=[
        pull_bureau_features,
        pull_application_features,
        customer_application_features,
        application_affordability,
    ],
)

account_behaviour_v1 = FeatureService(
    name="account_behaviour_v1",
    description="By account_id.",
    features=[account_payment_features, _only(account_amount_features, _USUAL_AMOUNTS)],
)

fraud_authorization_v1 = FeatureService(
    name="fraud_authorization_v1",
    description="By card_id, account_id and merchant_id, with the authorization.",
    features=[
        card_velocity_features,
        _only(account_amount_features, [*_USUAL_AMOUNTS, *_ACCOUNT_VELOCITY]),
        _only(account_payment_features, ["beh_util_cur", "beh_dpd_cur", "beh_mob"]),
        _only(merchant_risk_features, _MERCHANT),
        _only(mcc_risk_features, ["mcc_fraud_rate_30d"]),
        _only(device_risk_features, _of_place("device")),
        _only(ip_risk_features, _of_place("ip")),
        authorization_context,
        _only(authorization_windows, _WINDOWS),
        authorization_travel,
        authorization_habits,
        authorization_novelty,
        authorization_account_state,
    ],
)
