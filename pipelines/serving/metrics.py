"""What the server measures, for Prometheus: latency and misses by service, ages by view."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values

# Imported first, Feast has every value kept in a file for several processes. Here one serves; and
# two servers of a process do not count together.
values.ValueClass = values.MutexValue

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """One set of metrics per server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "cardline_request_seconds",
            "Time to answer, by route, by service or model, and by HTTP status.",
            ["route", "service", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._requests_by = cache(self._requests.labels)
        self._missing = Counter(
            "cardline_feature_values_missing",
            "Feature values asked for that the store does not have.",
            ["service"],
            registry=self._registry,
        )
        self._served = Counter(
            "cardline_feature_values",
            "Feature values asked for.",
            ["service"],
            registry=self._registry,
        )
        self._served_by = cache(self._served.labels)
        self._age = Gauge(
            "cardline_feature_age_seconds",
            "Age of what is known in the online store, by feature view, at its last read.",
            ["view"],
            registry=self._registry,
        )
        self._unavailable = Counter(
            "cardline_store_unavailable",
            "Requests that the online store did not answer in time.",
            registry=self._registry,
        )
        self._known_through: dict[str, datetime] = {}

    def answered(self, route: str, service: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests_by(route, service, status).observe(seconds)

    def read(
        self, service: str, asked: int, missing: int, known_through: Mapping[str, datetime]
    ) -> None:
        """Count the values of a request."""
        self._served_by(service).inc(asked)
        if missing:
            self._missing.labels(service).inc(missing)
        self._known_through.update(known_through)

    def store_unavailable(self) -> None:
        """Count a request that the store did not answer."""
        self._unavailable.inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        now = datetime.now(UTC).replace(tzinfo=None)
        for view, moment in self._known_through.items():
            self._age.labels(view).set((now - moment).total_seconds())
        return generate_latest(self._registry)
