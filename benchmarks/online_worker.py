"""One materialisation of `benchmarks.online`, in a process of its own: prints seconds and peak.

    python -m benchmarks.online_worker cardline|stock sqlite|redis VIEW …

`stock` makes a repository with Feast's own stores in `stock/` of the home, over the same published
Parquet, and leaves it there for `feast serve`.
"""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import yaml

from benchmarks.memory import peak_bytes
from pipelines.features.materialize import materialize
from pipelines.features.registry import feature_store, load_definitions
from pipelines.settings import get_settings

START = datetime(2025, 12, 1, tzinfo=UTC)
END = datetime(2026, 1, 2, tzinfo=UTC)


def main() -> None:
    """Materialise the views given on the command line."""
    who, store, *views = sys.argv[1:]
    if who == "cardline":
        feature_store()
        started, processor = time.perf_counter(), time.process_time()
        materialize(end=END, views=views)
    else:
        stock = _stock(store)
        started, processor = time.perf_counter(), time.process_time()
        stock.materialize(START, END, feature_views=views)
    measured = {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
        "peak_megabytes": peak_bytes() / (1 << 20),
    }
    print(json.dumps(measured))


def _stock(store: str) -> Any:
    from feast import FeatureStore

    settings = get_settings()
    folder = settings.home / "stock"
    folder.mkdir(exist_ok=True)
    online = {
        "sqlite": {"type": "sqlite", "path": str(folder / "online.db")},
        "redis": {"type": "redis", "connection_string": settings.redis_url},
    }[store]
    config = {
        "project": "cardline",
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "entity_key_serialization_version": 3,
        "offline_store": {"type": "duckdb"},
        "online_store": online,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    stock = FeatureStore(repo_path=str(folder))
    stock.apply(list(load_definitions().objects))
    return stock


if __name__ == "__main__":
    main()
