"""Pinned training sets: the rows and features a version was learned from, kept beside the registry.

A file is named after what it was made from: the outcomes, the list of features, and the
publication of each feature view. It is written once, aside and then renamed, and never changed; a
training that was killed after the retrieval finds it and goes on from there.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.errors import CardlineError
from pipelines.features.publish import read_manifest
from pipelines.features.retrieval import service_definition
from pipelines.files import written_aside
from pipelines.settings import get_settings
from pipelines.training_frames import with_features

if TYPE_CHECKING:
    from pipelines.training_frames import Outcomes

COLUMNS = ("person", "decision_at", "is_bad", "source")
"""What a training set has beside its key and the features."""


def pinned(name: str, outcomes: "Outcomes", features: list[str]) -> tuple[str, pl.DataFrame]:
    """The training set of `outcomes`, retrieved where it is not there yet.

    Returns the file relative to the registry's root, and its rows: key, `COLUMNS`, `features`, and
    vendor attributes as they arrived.
    """
    from models.common.dataset import dataset_sha256
    from models.underwriting.attributes import attribute_features, with_attributes

    made_from = {
        "outcomes": dataset_sha256(outcomes.frame),
        "features": features,
        "publications": {
            view: [read_manifest(view).table_id, read_manifest(view).publication]
            for view in service_definition(outcomes.service).views
        },
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    file = f"{name}/datasets/{digest[:20]}.parquet"
    path = get_settings().models_dir / file
    if not path.exists():
        frame = with_features(outcomes.service, outcomes.frame, "decision_at")
        frame = with_attributes(frame)
        attributes = attribute_features(frame.columns)
        with written_aside(path) as aside:
            frame.select(outcomes.grain, *COLUMNS, *features, *attributes).write_parquet(aside)
    return file, pl.read_parquet(path)


def read_pinned(name: str, version: str, manifest: dict[str, Any]) -> pl.DataFrame:
    """The training set of a version. Raises `CardlineError` where it is not there."""
    file = manifest.get("dataset_file")
    path = get_settings().models_dir / Path(file or "")
    if not file or not path.is_file():
        raise CardlineError(
            f"the data set that {name} {version} was trained from is not kept: train a new version"
        )
    return pl.read_parquet(path)
