"""Fixtures that tests of several rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.settings import get_settings


def pytest_configure() -> None:
    # Workers share the cores; each DuckDB taking all of them costs a third more than it gains.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("CARDLINE_THREADS", "1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home that the settings of this process point to, and nothing else of the user's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CARDLINE_HOME", str(folder))
    monkeypatch.delenv("CARDLINE_LANDING", raising=False)
    get_settings.cache_clear()
    yield folder
    get_settings.cache_clear()
