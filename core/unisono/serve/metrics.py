"""Metrics: what Prometheus is told: counts, sizes and times, and nothing of what was asked."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server; several servers of one process do not share them."""

    def __init__(self):
        self.registry = CollectorRegistry()
        of_route, of_model = ("route",), ("model",)
        shared: dict[str, Any] = {"namespace": "unisono", "registry": self.registry}
        self.requests = Counter("requests", "Answers", ("route", "status"), **shared)
        self.seconds = Histogram(
            "request_seconds", "From request to the answer's end", of_route, buckets=SECONDS, **shared
        )
        self.received = Counter("received_bytes", "Bodies", of_route, **shared)
        self.sent = Counter("sent_bytes", "Answers", of_route, **shared)
        self.batches = Histogram("batch_size", "Requests made together", of_model, buckets=BATCHES, **shared)
        self.busy = Counter("busy_seconds", "Time in the model", of_model, **shared)
        self._open = Gauge("open_requests", "Waiting, running, streaming", of_model, **shared)
        self._characters = Gauge("open_characters", "Of these requests", of_model, **shared)
        self._stuck = Gauge("stuck", "1 while a request runs whose time is over", of_model, **shared)

    def watch(self, served: Any) -> None:
        """Show a model's queue."""
        self._open.labels(served.name).set_function(lambda: served.batcher.requests)
        self._characters.labels(served.name).set_function(lambda: served.batcher.characters)
        self._stuck.labels(served.name).set_function(lambda: float(served.stuck))

    def ran(self, name: str, number: int, seconds: float) -> None:
        """Count a batch, or a turn."""
        self.batches.labels(name).observe(number)
        self.busy.labels(name).inc(seconds)

    def answered(self, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count an answer."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        self.received.labels(route).inc(received)
        self.sent.labels(route).inc(sent)

    def page(self) -> bytes:
        """Return them in Prometheus's text format."""
        return generate_latest(self.registry)
