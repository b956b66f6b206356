"""The catalogue of features: what each means, which reason it can become, how exact it is.

Put together from what is declared once elsewhere: names and types in `feature_repo/`, meanings in
the contracts of the dbt models (of request values here), directions and reasons in
`models.underwriting.catalogue`. `docs/features.md` is this catalogue in words.
"""

from dataclasses import dataclass

from pipelines.errors import CardlineError
from pipelines.features.registry import load_definitions
from pipelines.settings import PROJECT_DIR
from pipelines.training_frames import BEHAVIOUR_SERVICE, FRAUD_SERVICE, UNDERWRITING_SERVICE

SERVICES = (UNDERWRITING_SERVICE, BEHAVIOUR_SERVICE)
# Feast refuses an on-demand feature that has a description of its own.
_OF_REQUESTS = {
    "stated_income_minor": "Annual income as stated, minor units",
    "app_dti": "Monthly obligations and housing over monthly income; none counts as one minor unit",
    "app_line_to_income": "Requested limit over annual income; none counts as one minor unit",
    "app_residual_income_minor": "Monthly income less obligations and housing, minor units",
    "amount_zscore_now": "(amount - mean) / max(standard deviation, 5 % of the mean, 100), of the "
    "account's 30 days; null below five amounts",
    "amount_to_max_30d": "Amount over the account's greatest of 30 days",
    "card_amount_to_mean_30d": "Amount over the mean of the card's 30 days",
    "card_amount_to_max_30d": "Amount over the card's greatest of 30 days",
    "is_night": "Whether it is before six o'clock (UTC)",
    "is_weekend": "Whether it is Saturday or Sunday (UTC)",
    "is_holiday": "Whether it is a public holiday in the merchant's country (UTC)",
    "is_cross_border": "Whether the merchant's country is another than that in which the cards are "
    "issued (setting `issuer_country`)",
    "is_card_not_present": "Whether the card is not present",
    "is_magnetic_stripe": "Whether the card is read by its magnetic stripe (entry mode MAGSTRIPE)",
    "is_stored_credential": "Whether the merchant had the card on file (CREDENTIAL_ON_FILE)",
    "is_round_amount": "Whether the amount is a multiple of ten major units",
    "is_just_below_threshold": "Whether it is at most 2 % below 100, 200, 500 or 1,000 major units",
    **{
        f"{entity}_{measure}": f"{meaning} of the {named} in the {length} before"
        for entity, named in (
            ("card", "card"),
            ("account", "account"),
            ("merchant", "merchant"),
            ("device", "device"),
            ("ip", "address"),
        )
        for window, length in (("15m", "15 minutes"), ("1h", "hour"), ("24h", "24 hours"))
        for measure, meaning in (
            (f"count_{window}", "Authorizations that were not declined,"),
            (f"declined_count_{window}", "Declined authorizations"),
            (f"amount_{window}_minor", "Amount that was not declined,"),
        )
    },
    "seconds_since_used": "Seconds since the card's last authorization that was not declined, "
    "within 90 days",
    "seconds_since_declined": "Seconds since its last declined one, within 90 days",
    "age_s": "Seconds since what is stored was known: the staleness of the vector",
    "distance_from_home_km": "Kilometres from where the account's customer lives",
    "distance_km": "Kilometres from where the card was last used in person, within 90 days",
    "speed_kmh": "What speed that takes; below five minutes, as in five",
    "is_impossible_travel": "Whether that is above 900 km/h and 100 km",
    **{
        f"account_{pair}_{measure}": f"{meaning}{where}"
        for pair, where in (("mcc", "in the category"), ("merchant", "at the merchant"))
        for measure, meaning in (
            ("count_90d", "Authorizations of the account that were not declined, in 90 days, "),
            ("share_90d", "Their share of all that the account has in 90 days, by midnight, "),
        )
    },
    "account_mcc_count_30d": "Those of 30 days in the category",
    "account_mcc_amount_zscore_30d": "As amount_zscore_now, of the 30 days in the category",
    "account_mcc_amount_zscore_90d": "As amount_zscore_now, of the 90 days in the category",
    "account_mcc_amount_to_max_90d": "Amount over the greatest of the 90 days in the category",
    "account_mcc_amount_percentile_90d": "Share of the 90 days in the category that was less, and "
    "half of what was equal; null below five amounts",
    "seconds_since_mcc_used": "Seconds since the account used the category, within 90 days",
    "seconds_since_merchant_used": "Seconds since the account used the merchant, within 90 days",
    "is_new_mcc": "Whether the account has never used the merchant's category",
    "is_new_country": "Whether the account has never used a merchant in the country",
    "is_new_device": "Whether the account has never used the device",
    "days_at_merchant": "Days since the account first used the merchant; null: never",
    "days_since_issued": "Days since the card was issued",
    "days_since_activated": "Days since the card was activated; null: it is not known to be",
    **{
        f"days_since_{subject}_change": f"Days since the customer's {named} last became another; "
        "null: it is not known to have; a correction (of the same `updated_at`) is no change"
        for subject, named in (
            ("address", "address"),
            ("phone", "telephone number"),
            ("email", "e-mail address"),
        )
    },
    "is_contact_changed_24h": "Whether one of the three did in the 24 hours before; null if "
    "the account's limit is not known",
    "days_since_limit_change": "Days since the account's credit limit last changed; null: never",
    "limit_change_ratio": "The limit over the one before it",
    **{
        f"redeemed_{measure}_{window}": f"{meaning} in the {length} before"
        for window, length in (("24h", "24 hours"), ("7d", "7 days"))
        for measure, meaning in (
            ("count", "Redemptions and transfers of the account, null if its limit is not known,"),
            ("points", "Points that it redeemed or transferred, null if its limit is not known,"),
        )
    },
}
_EXACT, _MIDNIGHT = "exact at the request", "hops at midnight (UTC)"
_LOGGED = "exact at the request; of the busy, at its last message"
_OF_LAST = "exact at the request, of the last 50 messages"
_WINDOWS = {"authorization_windows": _LOGGED, "authorization_habits": _OF_LAST}
_STATEMENT = "changes with a statement"
_DIRECTIONS = {1: "higher is riskier", -1: "higher is safer", 0: "as the data say"}


@dataclass(frozen=True)
class CatalogueRow:
    """One feature of an underwriting service."""

    feature: str
    service: str
    view: str
    owner: str
    meaning: str
    null_meaning: str
    direction: str
    reason_code: str
    first_version: str


def feature_catalogue() -> list[CatalogueRow]:
    """Every feature that an underwriting model may be offered, in the order of its service.

    Raises `CardlineError` for a feature without a meaning or without a consumer reason.
    """
    from models.underwriting.catalogue import entry_for
    from pipelines.features.retrieval import service_definition
    from pipelines.training_frames import underwriting_features

    views = _views()
    meanings = _meanings()
    rows: list[CatalogueRow] = []
    for service in SERVICES:
        declared = service_definition(service)
        for feature in underwriting_features(service):
            entry, meaning = entry_for(feature), meanings.get(feature)
            if entry is None or not meaning:
                raise CardlineError(f"{feature} of {service} has no meaning or no consumer reason")
            rows.append(
                CatalogueRow(
                    feature=feature,
                    service=service,
                    view="request" if feature in declared.request else views[feature],
                    owner=entry.owner,
                    meaning=meaning,
                    null_meaning=entry.null_meaning,
                    direction=_DIRECTIONS[entry.direction],
                    reason_code=f"{entry.code} {entry.text}",
                    first_version=entry.first_version,
                )
            )
    return rows


@dataclass(frozen=True)
class FraudRow:
    """One feature of the fraud service; `window` says when its value changes."""

    feature: str
    service: str
    view: str
    meaning: str
    window: str


def fraud_catalogue() -> list[FraudRow]:
    """Every feature of the fraud service. Raises `CardlineError` for one without a meaning."""
    from pipelines.features.retrieval import service_definition

    service, views, meanings = service_definition(FRAUD_SERVICE), _views(), _meanings()
    rows = []
    for feature in service.features:
        view = views[feature]
        if not meanings.get(feature):
            raise CardlineError(f"{feature} of {FRAUD_SERVICE} has no meaning")
        window = _STATEMENT if view == "account_payment_features" else _MIDNIGHT
        if view not in service.views:
            window = _WINDOWS.get(view, _EXACT)
        rows.append(FraudRow(feature, FRAUD_SERVICE, view, meanings[feature], window))
    return rows


def as_markdown(rows: list[CatalogueRow], fraud_rows: list[FraudRow]) -> str:
    """The catalogue as a page: a table per service."""
    lines = [
        "# Features",
        "",
        "Written by `cardline features catalogue`; a test holds it against the declarations. All "
        "values are as they were known at the decision. As long as a bureau feed has not delivered "
        "anything, its features are null, never 0; training then leaves them out and says so.",
    ]
    for service in SERVICES:
        lines += [
            "",
            f"## {service}",
            "",
            "| feature | view | meaning | null means | direction | reason | owner | since |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{r.feature}` | {r.view} | {r.meaning} | {r.null_meaning} | {r.direction} "
            f"| {r.reason_code} | {r.owner} | {r.first_version} |"
            for r in rows
            if r.service == service
        ]
        if service == UNDERWRITING_SERVICE:
            lines += _vendor_attributes()
    lines += [
        "",
        f"## {FRAUD_SERVICE}",
        "",
        "Windows leave the authorization itself out and use what was known at their last change; "
        "those that hop are of whole days. What is exact is so to the microsecond, of what the "
        "online store knows. Null: nothing is known of the card, account, category, merchant or "
        "whatever it is about, or the request leaves out what it takes; 0: it is known, and had "
        "none in the window.",
        "",
        "| feature | view | meaning | window |",
        "|---|---|---|---|",
        *(f"| `{r.feature}` | {r.view} | {r.meaning} | {r.window} |" for r in fraud_rows),
    ]
    return "\n".join(lines) + "\n"


def _vendor_attributes() -> list[str]:
    from models.underwriting.attributes import COLUMN
    from models.underwriting.catalogue import CATALOGUE, PREFIX

    return [
        "",
        f"Attributes that the vendor computed come besides, in `{COLUMN}`, by the vendor's own "
        f"names: a number is the feature `{PREFIX}<name>`, a special code sets "
        f"`{PREFIX}<name>_is_<code>`. Null means no file, or no such attribute in it.",
        "",
        "| attributes (pattern) | direction | reason |",
        "|---|---|---|",
        *(
            f"| `{e.pattern.replace('|', chr(92) + '|')}` | {_DIRECTIONS[e.direction]} "
            f"| {e.code} {e.text} |"
            for e in CATALOGUE
            if e.pattern.startswith(PREFIX)
        ),
    ]


def _views() -> dict[str, str]:
    from feast import FeatureView, OnDemandFeatureView

    return {
        field.name: item.name
        for item in load_definitions().objects
        if isinstance(item, FeatureView | OnDemandFeatureView)
        for field in item.features
    }


def _meanings() -> dict[str, str]:
    """Meanings of stored features from the dbt contracts, and of what the request brings."""
    import yaml

    found = dict(_OF_REQUESTS)
    for path in sorted((PROJECT_DIR / "dbt" / "models" / "features").glob("*.yml")):
        for model in (yaml.safe_load(path.read_text()) or {}).get("models", []):
            for column in model.get("columns", []):
                found[column["name"]] = " ".join(str(column.get("description", "")).split())
    return found
