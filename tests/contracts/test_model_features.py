"""What the feature services offer is what the models may use and can explain."""

import os
from pathlib import Path

import pytest

from models.underwriting.catalogue import entry_for, prohibited_features
from pipelines.feature_catalogue import as_markdown, feature_catalogue, fraud_catalogue
from pipelines.settings import PROJECT_DIR
from pipelines.training_frames import (
    BEHAVIOUR_SERVICE,
    UNDERWRITING_SERVICE,
    fraud_features,
    underwriting_features,
)


@pytest.mark.parametrize("service", [UNDERWRITING_SERVICE, BEHAVIOUR_SERVICE])
def test_every_underwriting_feature_has_a_consumer_reason(service: str):
    features = underwriting_features(service)
    assert features
    assert [f for f in features if entry_for(f) is None] == []


@pytest.mark.parametrize("service", [UNDERWRITING_SERVICE, BEHAVIOUR_SERVICE])
def test_no_underwriting_feature_is_prohibited(service: str):
    assert prohibited_features(underwriting_features(service)) == []


def test_fraud_features_are_named_once():
    features = fraud_features()
    assert len(set(features)) == len(features)


def test_the_page_of_features_is_the_catalogue(home: Path):
    rows = feature_catalogue()
    assert {r.service for r in rows} == {UNDERWRITING_SERVICE, BEHAVIOUR_SERVICE}
    assert all(all(vars(row).values()) for row in rows)
    told = fraud_catalogue()
    assert [*(row.feature for row in told), "amount_minor"] == fraud_features()
    page = PROJECT_DIR / "docs" / "features.md"
    text = as_markdown(rows, told)
    if os.environ.get("CARDLINE_UPDATE_SNAPSHOT"):
        page.write_text(text)
    assert page.read_text() == text
