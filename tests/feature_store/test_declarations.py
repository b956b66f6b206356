"""What `feature_repo/` declares, and that it is what the rest of the house has."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.features.registry import FEATURE_REPO, apply, feature_store, load_definitions
from pipelines.features.retrieval import service_definition, service_names
from pipelines.settings import PROJECT_DIR

TIMES = {"event_timestamp", "created_timestamp"}


def test_services_take_the_keys_that_models_have(home: Path) -> None:
    assert service_names() == [
        "account_behaviour_v1",
        "fraud_authorization_v1",
        "underwriting_v1",
    ]
    assert service_definition("underwriting_v1").keys == ("pull_id", "customer_id")
    assert service_definition("account_behaviour_v1").keys == ("account_id",)
    fraud = service_definition("fraud_authorization_v1")
    assert set(fraud.keys) == {"card_id", "account_id", "merchant_id"}
    assert set(fraud.request) == {
        *("amount_minor", "event_hour", "event_weekday", "event_at", "known_at"),
        *("mcc", "merchant_country", "device_id", "ip_hash"),
        *("entry_mode", "is_card_present", "latitude", "longitude"),
    }
    assert fraud.made_of == {
        "account_mcc_key": ("account_id", "mcc"),
        "account_merchant_key": ("account_id", "merchant_id"),
        "device_key": ("device_id",),
        "ip_key": ("ip_hash",),
        "mcc_key": ("mcc",),
    }


def test_features_of_a_service_have_names_of_their_own(home: Path) -> None:
    store = feature_store()
    for name in service_names():
        projections = store.get_feature_service(name).feature_view_projections
        names = [field.name for projection in projections for field in projection.features]
        assert len(names) == len(set(names)), name


def test_applying_again_changes_nothing(home: Path) -> None:
    assert apply() is True
    registry = home / "feast" / "registry.db"
    before = registry.read_bytes()
    assert apply() is False
    assert registry.read_bytes() == before
    assert len(feature_store().list_feature_views()) == 22


def test_feast_is_told_absolute_paths(home: Path) -> None:
    for source in feature_store().list_data_sources():
        path = getattr(source, "path", None)
        if path:
            assert Path(path).is_relative_to(home / "features")
            assert path.endswith("/*/*.parquet")


def test_the_repository_is_script_style() -> None:
    """A package, or absolute imports, would declare every view twice."""
    assert not (FEATURE_REPO / "__init__.py").exists()
    for path in FEATURE_REPO.glob("*.py"):
        assert "feature_repo." not in path.read_text(), path.name
    assert "entities" not in sys.modules or load_definitions()


def test_dbt_declares_the_same_columns(home: Path) -> None:
    contracts = {}
    for path in (PROJECT_DIR / "dbt" / "models" / "features").glob("*.yml"):
        for model in (yaml.safe_load(path.read_text()) or {}).get("models", []):
            contracts[model["name"]] = {
                column["name"]: str(column.get("data_type", "")).upper()
                for column in model.get("columns", [])
            }
    if not contracts:
        pytest.skip("the dbt feature models have no contracts yet")
    types = {"INT64": "BIGINT", "DOUBLE": "DOUBLE", "STRING": "VARCHAR", "BOOL": "BOOLEAN"}
    for name, view in load_definitions().views.items():
        kinds = {view.key: "STRING", **view.features}
        wanted = {column: types[kind] for column, kind in kinds.items()}
        found = {c: kind for c, kind in contracts[name].items() if c not in TIMES}
        assert found == wanted, name


def test_importing_the_wrapper_does_not_import_feast() -> None:
    script = (
        "import sys; import pipelines.features.retrieval, pipelines.features.publish, "
        "pipelines.features.materialize, pipelines.features.parity; "
        "import pipelines.serving.server, pipelines.serving.tokens; "
        "print([m for m in ('feast', 'pandas', 'ibis', 'fastapi') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_DIR, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
