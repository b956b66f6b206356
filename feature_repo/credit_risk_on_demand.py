"""Features of credit risk that need what only the application tells.

Functions are as `fraud_on_demand` says of its own.
"""

from credit_risk_features import pull_bureau_features
from feast import Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

application_request = RequestSource(
    name="application_request",
    description="What the applicant states, in minor units (annual income, monthly housing).",
    schema=[
        Field(name="stated_income_minor", dtype=Int64),
        Field(name="housing_payment_minor", dtype=Int64),
        Field(name="requested_limit_minor", dtype=Int64),
    ],
)


@on_demand_feature_view(
    sources=[pull_bureau_features, application_request],
    schema=[
        Field(name="app_dti", dtype=Float64),
        Field(name="app_line_to_income", dtype=Float64),
        Field(name="app_residual_income_minor", dtype=Float64),
    ],
    mode="python",
    description="Ability to pay: debt to income, line to income, monthly residual income.",
)
def application_affordability(inputs):
    dti, line_to_income, residual = [], [], []
    for income, housing, limit, debt in zip(
        inputs["stated_income_minor"],
        inputs["housing_payment_minor"],
        inputs["requested_limit_minor"],
        inputs["bur_monthly_debt_minor"],
        strict=True,
    ):
        # No income is the least that there is, not an unknown one.
        line_to_income.append(None if income is None or limit is None else limit / max(income, 1))
        if income is None or housing is None or debt is None:
            dti.append(None)
            residual.append(None)
        else:
            dti.append((debt + housing) / (max(income, 1) / 12))
            residual.append(income / 12 - debt - housing)
    return {
        "app_dti": dti,
        "app_line_to_income": line_to_income,
        "app_residual_income_minor": residual,
    }
