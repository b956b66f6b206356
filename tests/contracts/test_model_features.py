"""What the feature services offer is what the models may use and can explain."""

import pytest

from models.underwriting.catalogue import entry_for, prohibited_features
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
