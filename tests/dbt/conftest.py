"""A home of its own for each module that builds the dbt project."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.settings import get_settings
from tests.dbt.lake_builds import home_of


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home, which this process works in until the module's tests are done."""
    folder = tmp_path_factory.mktemp("dbt") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDLINE_HOME", str(folder))
        yield home_of(folder)
    get_settings.cache_clear()
