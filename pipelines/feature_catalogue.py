"""The catalogue of underwriting features: what each means, and which reason it can become.

Put together from what is declared once elsewhere: names and types in `feature_repo/`, meanings in
the contracts of the dbt models (of request values here), directions and reasons in
`models.underwriting.catalogue`. `docs/features.md` is this catalogue in words.
"""

from dataclasses import dataclass

from pipelines.errors import CardlineError
from pipelines.features.registry import load_definitions
from pipelines.settings import PROJECT_DIR

SERVICES = ("underwriting_v1", "account_behaviour_v1")
# Feast refuses an on-demand feature that has a description of its own.
_OF_REQUESTS = {
    "stated_income_minor": "Annual income as stated, minor units",
    "app_dti": "Monthly obligations and housing over monthly income",
    "app_line_to_income": "Requested limit over annual income",
    "app_residual_income_minor": "Monthly income less obligations and housing, minor units",
}
_DIRECTIONS = {1: "higher is riskier", -1: "higher is safer", 0: "as the data say"}


@dataclass(frozen=True)
class CatalogueRow:
    """One feature of one service."""

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


def as_markdown(rows: list[CatalogueRow]) -> str:
    """The catalogue as a page: a table per service."""
    lines = [
        "# Underwriting features",
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
    return "\n".join(lines) + "\n"


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
