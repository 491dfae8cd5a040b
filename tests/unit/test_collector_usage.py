"""Readings become rates, amounts and ratios; what cannot be told is absent, and a new start is never a wrong rate."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.net_dev import read_net_dev
from services.collector.usage import AMOUNTS, MB, RATES, RATIOS, Past, Usage, kept, total, values_of_usage
from shared.contracts.resource import RESOURCE_UNITS
from shared.errors import BadMessageError

COUNTERS = (*RATES.values(), "periods", "throttled_periods")


def test_two_readings_tell_every_metric_in_its_unit() -> None:
    before = Usage(at_s=10.0, **dict.fromkeys(COUNTERS, 100.0))
    after = Usage(
        at_s=12.0,
        cpu_s=103.0,
        cpu_limit_cores=2.0,
        periods=120.0,
        throttled_periods=105.0,
        memory_bytes=512 * MB,
        memory_limit_bytes=2048 * MB,
        received=1_100.0,
        sent=300.0,
        errors=102.0,
        drops=100.0,
        read_bytes=4_196.0,
        written_bytes=100.0,
        reads=110.0,
        writes=100.0,
        storage_bytes=30 * MB,
        storage_limit_bytes=40 * MB,
        open_files=17.0,
        threads=4.0,
        gpu=0.5,
        gpu_memory_bytes=8 * MB,
        gpu_memory_limit_bytes=16 * MB,
    )
    values = values_of_usage(before, after)
    assert values.keys() == RESOURCE_UNITS.keys()
    assert values == pytest.approx(
        {
            "cpu_usage": 0.75,
            "cpu_cores": 1.5,
            "cpu_throttled": 0.25,
            "memory_usage": 512.0,
            "memory_ratio": 0.25,
            "network_received": 500.0,
            "network_sent": 100.0,
            "network_errors": 1.0,
            "network_drops": 0.0,
            "storage_read": 2_048.0,
            "storage_written": 0.0,
            "storage_reads": 5.0,
            "storage_writes": 0.0,
            "storage_used": 30.0,
            "storage_ratio": 0.75,
            "open_files": 17.0,
            "threads": 4.0,
            "gpu_usage": 0.5,
            "gpu_memory": 8.0,
            "gpu_memory_ratio": 0.5,
        }
    )


def test_the_first_reading_tells_amounts_and_no_rates() -> None:
    values = values_of_usage(None, Usage(at_s=1.0, cpu_s=5.0, cpu_limit_cores=1.0, memory_bytes=MB))
    assert values == {"memory_usage": 1.0}


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_that_goes_back_tells_nothing(name: str) -> None:
    before = Usage(at_s=1.0, cpu_limit_cores=1.0, **{name: 50.0})
    assert values_of_usage(before, Usage(at_s=2.0, cpu_limit_cores=1.0, **{name: 1.0})) == {}


def test_a_limit_that_is_not_known_leaves_the_ratio_out() -> None:
    values = values_of_usage(Usage(at_s=1.0, cpu_s=1.0), Usage(at_s=2.0, cpu_s=1.5, memory_bytes=MB))
    assert values == {"cpu_cores": 0.5, "memory_usage": 1.0}


@pytest.mark.parametrize("at_s", [1.0, 0.5, 100.0], ids=["no time between", "time going back", "long silence"])
def test_readings_that_span_no_time_or_too_much_tell_no_rate(at_s: float) -> None:
    assert values_of_usage(Usage(at_s=1.0, cpu_s=1.0), Usage(at_s=at_s, cpu_s=2.0)) == {}


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e15)), min_size=2, max_size=2),
    st.floats(0.001, 20),
    st.sampled_from(sorted(RATES)),
)
def test_a_rate_is_what_grew_over_the_time_or_absent(counts: list[float | None], elapsed_s: float, metric: str) -> None:
    first, last = counts
    readings = [Usage(at_s=5.0 + at, **{RATES[metric]: count}) for at, count in ((0.0, first), (elapsed_s, last))]
    values = values_of_usage(*readings)
    if first is None or last is None or last < first:
        assert values == {}
    else:
        assert values[metric] == pytest.approx((last - first) / (readings[1].at_s - readings[0].at_s))


def test_a_new_life_or_a_missed_round_begins_anew() -> None:
    past = Past()
    tell = [("first life", 1.0, 1.0), ("first life", 2.0, 2.0), ("second life", 3.0, 30.0), ("second life", 4.0, 31.0)]
    values = []
    for life, at_s, cpu_s in tell:
        values.append(past.step("relaycore-1", life, Usage(at_s=at_s, cpu_s=cpu_s)))
        past.end_round()
    assert values == [{}, {"cpu_cores": 1.0}, {}, {"cpu_cores": 1.0}]
    past.end_round()
    assert past.step("relaycore-1", "second life", Usage(at_s=6.0, cpu_s=33.0)) == {}


def test_a_sum_tells_only_what_each_part_tells() -> None:
    parts = [Usage(at_s=0.0, cpu_s=1.0, reads=5.0, threads=2.0), Usage(at_s=0.0, cpu_s=2.5, threads=1.0)]
    assert total(parts, 9.0) == Usage(at_s=9.0, cpu_s=3.5, threads=3.0)


def test_only_what_is_asked_for_is_kept() -> None:
    assert kept({"cpu_usage": 0.5, "threads": 3.0}, ("cpu_usage", "gpu_usage")) == {"cpu_usage": 0.5}
    assert kept({"threads": 3.0}, None) == {"threads": 3.0}


def test_every_field_of_a_reading_becomes_a_metric() -> None:
    used = {name for pair in RATIOS.values() for name in pair} | {name for name, _ in AMOUNTS.values()}
    assert {field.name for field in fields(Usage)} == used | set(COUNTERS) | {"at_s", "cpu_limit_cores"}


NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo: 9999999    9999    9    9    0     0          0         0  9999999    9999    9    9    0     0       0  0
  eth0:    1000      10    1    2    0     0          0         0      500       5    3    4    0     0       0  0
  eth1:      24       1    0    0    0     0          0         0       12       1    0    0    0     0       0  0
"""


def test_network_counters_are_summed_over_all_but_the_loopback() -> None:
    network = read_net_dev(NET_DEV)
    assert network is not None
    assert (network.received, network.sent, network.errors, network.drops) == (1024.0, 512.0, 4.0, 6.0)
    assert read_net_dev("\n".join(NET_DEV.splitlines()[:3])) is None
    with pytest.raises(BadMessageError, match="no network statistics"):
        read_net_dev("a\nb\neth0: many\n")
