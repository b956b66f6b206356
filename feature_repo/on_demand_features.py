"""Features that need what only the request knows.

Functions take and return columns (lists of equal length), never single values: Feast's singleton
mode computes only the first row of an online request with several. They are stored as source text,
so each holds everything that it uses. An input that is missing or cannot be gives a null, never a
default.
"""

from credit_risk_features import pull_bureau_features
from feast import Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64
from fraud_features import account_amount_features

application_request = RequestSource(
    name="application_request",
    description="What the applicant states, in minor units (annual income, monthly housing).",
    schema=[
        Field(name="stated_income_minor", dtype=Int64),
        Field(name="housing_payment_minor", dtype=Int64),
        Field(name="requested_limit_minor", dtype=Int64),
    ],
)

authorization_request = RequestSource(
    name="authorization_request",
    description="The authorization: amount in minor units, hour 0–23, ISO weekday 1 (Monday)–7.",
    schema=[
        Field(name="amount_minor", dtype=Int64),
        Field(name="event_hour", dtype=Int64),
        Field(name="event_weekday", dtype=Int64),
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
        monthly = income / 12 if income else None
        line_to_income.append(limit / income if income and limit is not None else None)
        if monthly and housing is not None and debt is not None:
            dti.append((debt + housing) / monthly)
            residual.append(monthly - debt - housing)
        else:
            dti.append(None)
            residual.append(None)
    return {
        "app_dti": dti,
        "app_line_to_income": line_to_income,
        "app_residual_income_minor": residual,
    }


@on_demand_feature_view(
    sources=[account_amount_features, authorization_request],
    schema=[
        Field(name="amount_zscore_now", dtype=Float64),
        Field(name="amount_to_max_30d", dtype=Float64),
        Field(name="is_night", dtype=Bool),
        Field(name="is_weekend", dtype=Bool),
    ],
    mode="python",
    description="The authorization against the account's usual amounts, and when it happens.",
)
def authorization_context(inputs):
    # z = (a - mean) / max(stddev, 5 % of the mean, one major unit); null below five amounts.
    zscore, to_max = [], []
    for amount, count, mean, stddev, largest in zip(
        inputs["amount_minor"],
        inputs["amount_count_30d"],
        inputs["amount_mean_30d_minor"],
        inputs["amount_stddev_30d_minor"],
        inputs["amount_max_30d_minor"],
        strict=True,
    ):
        to_max.append(amount / largest if amount is not None and largest else None)
        if None in (amount, count, mean, stddev) or count < 5:
            zscore.append(None)
        else:
            zscore.append((amount - mean) / max(stddev, 0.05 * mean, 100.0))
    return {
        "amount_zscore_now": zscore,
        "amount_to_max_30d": to_max,
        "is_night": [
            hour < 6 if hour is not None and 0 <= hour <= 23 else None
            for hour in inputs["event_hour"]
        ],
        "is_weekend": [
            day >= 6 if day is not None and 1 <= day <= 7 else None
            for day in inputs["event_weekday"]
        ],
    }


def _trust_schema() -> None:
    """The schema above is complete; nothing is to be inferred.

    Feast calls the function with every input 1 and fails where the answer is null, as it rightly is
    for a usual amount known from one transaction.
    """


authorization_context.infer_features = _trust_schema
