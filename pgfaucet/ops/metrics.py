"""Counts for Prometheus (CONTRACT section 7).

The hot path adds to plain numbers; they become Prometheus samples only when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

STATEMENT_BUCKETS: Final[tuple[float, ...]] = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)
OVERHEAD_BUCKETS: Final[tuple[float, ...]] = (
    0.00001,
    0.000025,
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.01,
    0.1,
)


class Histogram:
    """A histogram as plain numbers; buckets are upper bounds in seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative buckets as Prometheus wants them."""
        running = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            found.append((bound, running))
        return found


class Metrics(Collector):
    """The numbers of one process."""

    def __init__(self) -> None:
        self.statements: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # role, verb, decision
        self.statement_seconds: dict[str, Histogram] = {}
        self.overhead = Histogram(OVERHEAD_BUCKETS)
        self.auth: defaultdict[str, int] = defaultdict(int)
        self.pins: defaultdict[str, int] = defaultdict(int)
        self.gauges: Callable[[], Iterable[Metric]] = tuple
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe_statement(self, role: str, verb: str, decision: str, seconds: float) -> None:
        """Count one finished statement."""
        self.statements[role, verb, decision] += 1
        histogram = self.statement_seconds.get(role)
        if histogram is None:
            histogram = self.statement_seconds[role] = Histogram(STATEMENT_BUCKETS)
        histogram.observe(seconds)

    def render(self) -> bytes:
        """Return everything in the text exposition format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Make Prometheus samples of the numbers."""
        statements = CounterMetricFamily(
            "pgfaucet_statements", "Statements by role, verb and decision.", labels=("role", "verb", "decision")
        )
        for key, count in self.statements.items():
            statements.add_metric(key, count)
        seconds = HistogramMetricFamily(
            "pgfaucet_statement_seconds", "Time from request to completion.", labels=("role",)
        )
        for role, histogram in self.statement_seconds.items():
            seconds.add_metric((role,), histogram.buckets(), histogram.total)
        overhead = HistogramMetricFamily("pgfaucet_overhead_seconds", "Time spent in the proxy for a statement.")
        overhead.add_metric((), self.overhead.buckets(), self.overhead.total)
        auth = CounterMetricFamily("pgfaucet_auth", "Logins by result.", labels=("result",))
        for result, count in self.auth.items():
            auth.add_metric((result,), count)
        pins = CounterMetricFamily("pgfaucet_pins", "Connections kept for one client, by reason.", labels=("reason",))
        for reason, count in self.pins.items():
            pins.add_metric((reason,), count)
        return (statements, seconds, overhead, auth, pins, *self.gauges())


def gauge(
    name: str, documentation: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    """Make a gauge with its samples."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def counter(
    name: str, documentation: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> CounterMetricFamily:
    """Make a counter with its samples; `name` has no _total."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
