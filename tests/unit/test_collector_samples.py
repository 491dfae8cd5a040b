"""Scrapes become resource values by the shipped mapping; what cannot be told is absent."""

from pathlib import Path

import pytest

from services.collector.samples import ResourceMap, read_scrape, values_of
from services.collector.source_config import Resources
from shared.config import load_document, parse
from shared.errors import BadMessageError, ConfigError

MAP = load_document(Resources, Path(__file__).parents[2] / "config" / "resources.yaml")

PAGE = """\
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {cpu}
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 2147483648
# TYPE platform_cpu_limit_cores gauge
platform_cpu_limit_cores 2.0
# TYPE platform_memory_limit_bytes gauge
platform_memory_limit_bytes 4294967296
# TYPE platform_requests_total counter
{requests}
# TYPE platform_requests_in_flight gauge
platform_requests_in_flight 4
# TYPE platform_queue_length gauge
platform_queue_length 7
# TYPE relaycore_routing_latency_seconds histogram
relaycore_routing_latency_seconds_bucket{{le="+Inf"}} {count}
relaycore_routing_latency_seconds_count {count}
relaycore_routing_latency_seconds_sum {sum}
"""


def page(cpu: float = 0.0, requests: str = "", count: int = 0, total: float = 0.0) -> str:
    return PAGE.format(cpu=cpu, requests=requests, count=count, sum=total)


def test_two_scrapes_tell_gauges_rates_and_means_in_their_units() -> None:
    before = read_scrape(page(cpu=10.0, requests='platform_requests_total{route="/a"} 5', count=3, total=0.5), 100.0)
    text = page(
        cpu=13.0,
        requests='platform_requests_total{route="/a"} 15\nplatform_requests_total{route="/b"} 30',
        count=5,
        total=0.58,
    )
    assert values_of(MAP, before, read_scrape(text, 102.0)) == pytest.approx(
        {
            "cpu_usage": 0.75,
            "cpu_cores": 1.5,
            "memory_usage": 2048.0,
            "memory_ratio": 0.5,
            "queue_length": 7.0,
            "requests_in_flight": 4.0,
            "request_rate": 20.0,
            "routing_latency": 40.0,
        }
    )


def test_the_first_scrape_tells_gauges_only() -> None:
    values = values_of(MAP, None, read_scrape(page(cpu=10.0, count=3, total=0.5), 100.0))
    assert set(values) == {"memory_usage", "memory_ratio", "queue_length", "requests_in_flight"}


def test_a_mean_without_a_new_observation_is_absent_and_never_zero() -> None:
    before, after = (read_scrape(page(count=3, total=0.5), at_s) for at_s in (1.0, 2.0))
    assert "routing_latency" not in values_of(MAP, before, after)


def test_a_restart_makes_rates_absent_and_not_negative() -> None:
    before, after = read_scrape(page(cpu=50.0), 1.0), read_scrape(page(cpu=0.1), 2.0)
    assert "cpu_usage" not in values_of(MAP, before, after)


def test_a_counter_that_is_declared_but_not_counted_yet_is_a_known_zero() -> None:
    before, after = read_scrape(page(), 1.0), read_scrape(page(), 2.0)
    assert values_of(MAP, before, after)["request_rate"] == 0.0


def test_a_ratio_of_a_limit_that_is_not_exposed_is_absent() -> None:
    values = values_of(MAP, None, read_scrape("process_resident_memory_bytes 1048576\n", 1.0))
    assert values == {"memory_usage": 1.0}


@pytest.mark.parametrize("text", ["metric without a number\n", "a{b=c} 1\n", "<html>\n"])
def test_a_page_that_is_no_metrics_is_refused(text: str) -> None:
    with pytest.raises(BadMessageError, match="no Prometheus text"):
        read_scrape(text, 0.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"name": "x", "unit": "furlongs", "form": "gauge", "of": "y"}, "unit"),
        ({"name": "x", "unit": "ms", "form": "guess", "of": "y"}, "form"),
        ({"name": "x", "unit": "ms", "form": "gauge", "of": "y", "sclae": 2}, "sclae: unknown field"),
    ],
    ids=["unit", "form", "misspelt field"],
)
def test_a_wrong_mapping_is_one_line_that_names_the_field(line: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(ResourceMap, {"metrics": [line]}, "resources.yaml")


def test_a_metric_listed_twice_is_refused() -> None:
    line = {"name": "x", "unit": "ms", "form": "gauge", "of": "y"}
    with pytest.raises(ConfigError, match="listed twice: x"):
        parse(ResourceMap, {"metrics": [line, line]}, "resources.yaml")
