"""What models ask for: one service per model version, unchanged once a model is trained on it."""

from credit_risk_features import (
    account_payment_features,
    customer_application_features,
    pull_bureau_features,
)
from feast import FeatureService
from fraud_features import (
    VELOCITY_DAYS,
    account_amount_features,
    card_velocity_features,
    device_risk_features,
    ip_risk_features,
    mcc_risk_features,
    merchant_risk_features,
)
from on_demand_features import (
    application_affordability,
    authorization_context,
    authorization_novelty,
    authorization_travel,
    authorization_windows,
)

_USUAL_AMOUNTS = [
    "amount_count_30d",
    "amount_mean_30d_minor",
    "amount_stddev_30d_minor",
    "amount_max_30d_minor",
    "amount_count_90d",
    "amount_mean_90d_minor",
    "amount_stddev_90d_minor",
]


def _velocity_and_risk(entity: str) -> list[str]:
    """What a model uses of an entity's view: its velocity, and its fraud over longer windows."""
    return [
        *(
            f"{entity}_{measure}_{days}d"
            for days in VELOCITY_DAYS
            for measure in ("count", "declined_count")
        ),
        *(f"{entity}_amount_{days}d_minor" for days in VELOCITY_DAYS),
        *(f"{entity}_fraud_rate_{days}d" for days in (7, 30, 90)),
    ]


underwriting_v1 = FeatureService(
    name="underwriting_v1",
    description="By pull_id and customer_id, with what the applicant states.",
    features=[pull_bureau_features, customer_application_features, application_affordability],
)

account_behaviour_v1 = FeatureService(
    name="account_behaviour_v1",
    description="By account_id.",
    features=[account_payment_features, account_amount_features[_USUAL_AMOUNTS]],
)

fraud_authorization_v1 = FeatureService(
    name="fraud_authorization_v1",
    description="By card_id, account_id and merchant_id, with the authorization.",
    features=[
        card_velocity_features,
        account_amount_features,
        account_payment_features[["beh_util_cur", "beh_dpd_cur", "beh_mob"]],
        merchant_risk_features,
        mcc_risk_features[["mcc_count_30d", "mcc_fraud_rate_7d", "mcc_fraud_rate_30d"]],
        device_risk_features[_velocity_and_risk("device")],
        ip_risk_features[_velocity_and_risk("ip")],
        authorization_context,
        authorization_windows,
        authorization_travel,
        authorization_novelty,
    ],
)
