"""What models ask for: one service per model version, unchanged once a model is trained on it."""

from credit_risk_features import (
    account_payment_features,
    customer_application_features,
    pull_bureau_features,
)
from feast import FeatureService
from fraud_features import (
    account_amount_features,
    card_velocity_features,
    merchant_risk_features,
)
from on_demand_features import application_affordability, authorization_context

underwriting_v1 = FeatureService(
    name="underwriting_v1",
    description="By pull_id and customer_id, with what the applicant states.",
    features=[pull_bureau_features, customer_application_features, application_affordability],
)

account_behaviour_v1 = FeatureService(
    name="account_behaviour_v1",
    description="By account_id.",
    features=[account_payment_features, account_amount_features],
)

fraud_authorization_v1 = FeatureService(
    name="fraud_authorization_v1",
    description="By card_id, account_id and merchant_id, with the authorization.",
    features=[
        card_velocity_features,
        account_amount_features,
        merchant_risk_features,
        authorization_context,
    ],
)
