"""The metrics of one replica, in Prometheus text format. Every name stands here."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from .capacity import Capacity
from .spec import ServiceConfig

_FINE_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_LOAD_BUCKETS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60)


class Metrics:
    """What a replica tells about itself. Gauges of its capacity are read at the scrape."""

    def __init__(self, config: ServiceConfig, work: Capacity, api: Capacity) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "platform_requests",
            "API requests answered",
            ["route", "status"],
            registry=registry,
        )
        self._answered: dict[tuple[str, int], Counter] = {}
        self.in_flight = 0
        self._gauge("platform_requests_in_flight", "API requests being answered").set_function(lambda: self.in_flight)
        self._gauge("platform_queue_length", "Tasks waiting for a server").set_function(
            lambda: work.queue_length + api.queue_length
        )
        self._gauge("platform_servers", "Tasks served at once").set(work.servers)
        self._gauge("platform_servers_busy", "Servers at work").set_function(lambda: work.busy)
        self._gauge("platform_cpu_limit_cores", "CPU limit of the deployment").set(config.sizes.cpu_limit_cores)
        self._gauge("platform_memory_limit_bytes", "Memory limit of the deployment").set(
            config.sizes.memory_limit_mib * 1024 * 1024
        )
        if config.system == "relaycore":
            self.routing_latency = self._histogram(
                "relaycore_routing_latency_seconds", "Wait for a router and routing", _FINE_BUCKETS_S
            )
            self.cost_optimization = self._histogram(
                "relaycore_cost_optimization_seconds", "Cost optimisation within routing", _FINE_BUCKETS_S
            )
        if config.system == "neuroweaver":
            self.model_load = self._histogram(
                "neuroweaver_model_load_seconds", "Loading a model into a replica", _LOAD_BUCKETS_S
            )
            self.inferences_in_flight = self._gauge("neuroweaver_inferences_in_flight", "Inferences waiting or at work")
            self._gauge(
                "simulated_gpu_usage_ratio", "Busy servers over all servers; simulated, no GPU is read"
            ).set_function(lambda: work.busy / work.servers)

    def answered(self, route: str, status: int) -> None:
        """Count one answered request."""
        child = self._answered.get((route, status))
        if child is None:
            child = self._answered[route, status] = self.requests.labels(route, str(status))
        child.inc()

    def render(self) -> bytes:
        """The text a scrape gets."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(name, help_text, registry=self._registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, buckets=buckets, registry=self._registry)
