"""How benchmarks inherit, what an environment changes, and the line and the fix of every mistake."""

from pathlib import Path

import pytest

from shared.contracts.benchmarks import Benchmark
from shared.contracts.benchmarks_file import EffectiveBenchmarks, environments_of, load_benchmarks
from shared.errors import ConfigError

DOCUMENT = """\
defaults:
  window: 20s
  severity: info
systems:
  shop:
    service: shop-backend
    name: Shop
    defaults:
      window: 15s
    benchmarks:
      - metric: response_time
        target: 200 ms
        critical: 0.5 s
        source: response_time
        required: true
      - metric: checkout_time
        from: response_time
        scenarios: checkout
        actions: [pay]
        target: 300 ms
      - {metric: error_rate, target: 1 %, critical: 5 %, source: error_rate, severity: {target: mail, critical: page}}
      - {metric: memory, target: 4 GB, critical: 6144 MB, source: resource, resource: memory_usage}
  pay:
    service: pay
    name: Pay
    benchmarks:
      - {metric: response_time, from: shop/checkout_time, scenarios: [], actions: [], critical: 400 ms}
      - {metric: orders, target: 6000 requests/min, critical: 50/s, source: throughput}
environments:
  production:
    shop:
      response_time:
        critical: 400 ms
      error_rate: {target: 0.5 %}
  staging: {}
"""


def load(path: Path, text: str = DOCUMENT, environment: str = "local") -> EffectiveBenchmarks:
    path.write_text(text)
    return load_benchmarks(path, environment)


def one(effective: EffectiveBenchmarks, system: str, metric: str) -> Benchmark:
    (found,) = [one for one in effective.benchmarks.systems[system].benchmarks if one.metric == metric]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "benchmarks.yaml"


def test_defaults_give_way_from_the_file_to_the_system_to_the_benchmark(path: Path) -> None:
    effective = load(path)
    response = one(effective, "shop", "response_time")
    assert (response.window, response.severity.at("critical"), response.required) == (15, "info", True)
    assert one(effective, "pay", "orders").window == 20
    assert one(effective, "shop", "error_rate").severity.at("target") == "mail"


def test_a_derived_benchmark_is_its_base_but_for_what_it_says_itself(path: Path) -> None:
    derived = one(load(path), "shop", "checkout_time")
    base = one(load(path), "shop", "response_time")
    own = {"metric": "checkout_time", "target": 300, "scenarios": ("checkout",), "actions": ("pay",)}
    assert derived == base.model_copy(update=own)
    of_another_system = one(load(path), "pay", "response_time")
    assert (of_another_system.target, of_another_system.critical, of_another_system.window) == (300, 400, 15)


def test_units_are_written_out_and_kept_in_the_one_of_the_source(path: Path) -> None:
    effective = load(path)
    figures = {
        metric: (one(effective, system, metric).target, one(effective, system, metric).critical)
        for system, metric in [("shop", "response_time"), ("shop", "error_rate"), ("shop", "memory"), ("pay", "orders")]
    }
    assert figures == {
        "response_time": (200, 500),
        "error_rate": (0.01, 0.05),
        "memory": (4096, 6144),
        "orders": (100, 50),
    }
    assert (one(effective, "shop", "memory").unit, one(effective, "pay", "orders").better) == ("MB", "higher")


def test_an_environment_changes_what_it_names_and_what_is_derived_from_it(path: Path) -> None:
    effective = load(path, environment="production")
    assert one(effective, "shop", "response_time").critical == 400
    assert one(effective, "shop", "checkout_time").critical == 400
    assert one(effective, "shop", "error_rate").target == 0.005
    assert one(effective, "shop", "memory") == one(load(path), "shop", "memory")
    assert load(path, environment="staging").benchmarks == load(path).benchmarks
    assert environments_of(path) == ("production", "staging")


def test_every_value_knows_its_line(path: Path) -> None:
    lines = load(path, environment="production").lines
    assert lines["shop", "response_time"] == {
        "window": 9, "severity": 3, "metric": 11, "target": 12, "critical": 33, "source": 14, "required": 15,
    }  # fmt: skip
    assert lines["shop", "checkout_time"]["target"] == 20
    assert lines["shop", "checkout_time"]["critical"] == 33


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            ("critical: 5 %", "critical: 0.1 %"),
            ":21: systems.shop.benchmarks.2.critical: error_rate: critical 0.001 must lie above target 0.005, since "
            "lower is better",
            id="critical on the wrong side",
        ),
        pytest.param(
            ("critical: 400 ms\n      error", "critical: 150 ms\n      error"),
            ":33: systems.shop.benchmarks.0.critical: response_time: critical 150 must lie above target 200",
            id="through the environment",
        ),
        pytest.param(
            ("target: 300 ms", "target: 600 ms"),
            ":33: systems.shop.benchmarks.1.critical: checkout_time: critical 400 must lie above target 600",
            id="through what is derived",
        ),
        pytest.param(
            ("target: 200 ms", "target: 200 mm"),
            ":12: systems.shop.benchmarks.0.target: response_time: unknown unit 'mm' in '200 mm'; target is in ms, "
            "write it in ms or s or min or us",
            id="unit",
        ),
        pytest.param(
            ("required: true", "statistic: p99\n        min_samples: 200"),
            ":16: systems.shop.benchmarks.0.min_samples: response_time: min_samples 200 can never confirm p99 at 95 %; "
            "use at least 299",
            id="a percentile no window confirms",
        ),
        pytest.param(
            ("- {metric: orders,", "- {metric: quick, from: response_time, max_window: 20s, min_samples: 2001}\n"
             "      - {metric: orders,"),
            ":28: systems.pay.benchmarks.1.min_samples: quick: 100 requests/s, this system's throughput, never give "
            "min_samples 2001 within max_window 20 s; use a max_window of at least 21 s",
            id="samples that never come",
        ),
        pytest.param(
            ("required: true", "objective: 90 %"),
            ":15: systems.shop.benchmarks.0.objective: response_time: factor 14.4 can never fire: objective 90 % "
            "leaves a budget of 10 %, and with every request bad it burns 10 times too fast; write burn_rates with "
            "factors below 10",
            id="a standard factor that never fires",
        ),
        pytest.param(
            ("required: true", "objective: 99 %\n        burn_rates:\n          - {long: 1h, short: 5m, factor: 100}"),
            ":17: systems.shop.benchmarks.0.burn_rates.0.factor: response_time: factor 100 can never fire",
            id="a factor that never fires",
        ),
        pytest.param(
            ("required: true", "objective: 99 %\n        burn_rates: [{long: 5m, short: 5m, factor: 2}]"),
            ":16: systems.shop.benchmarks.0.burn_rates.0.short: short of 300 s must be below long 300 s",
            id="windows of a pair",
        ),
        pytest.param(
            ("required: true", "burn_rates: [{long: 1h, short: 5m, factor: 2}]"),
            ":15: systems.shop.benchmarks.0.burn_rates: response_time: burn_rates need an objective",
            id="burn rates of nothing",
        ),
        pytest.param(
            ("resource: memory_usage", "resource: memory_use"),
            ":22: systems.shop.benchmarks.3.resource: memory: unknown resource metric 'memory_use' "
            "(did you mean 'memory_usage'?); known: ",
            id="unknown metric",
        ),
        pytest.param(
            ("from: response_time", "from: respons_time"),
            ":17: systems.shop.benchmarks.1.from: no benchmark 'respons_time' (did you mean 'response_time'?); there ",
            id="unknown base",
        ),
        pytest.param(
            ("metric: response_time\n        target: 200 ms", "metric: response_time\n        from: checkout_time"),
            ":12: systems.shop.benchmarks.0.from: 'checkout_time' is derived from this one in turn; end the circle",
            id="a circle",
        ),
        pytest.param(
            ("      error_rate: {target: 0.5", "      eror_rate: {target: 0.5"),
            ":34: environments.production.shop.eror_rate: no benchmark 'eror_rate' of shop (did you mean 'error_rate'?",
            id="an override of an unknown metric",
        ),
        pytest.param(
            ("    shop:\n      response", "    shopp:\n      response"),
            ":31: environments.production.shopp: no system 'shopp' (did you mean 'shop'?); there are shop, pay",
            id="an override of an unknown system",
        ),
        pytest.param(
            ("error_rate: {target: 0.5", "error_rate: {tarket: 0.5"),
            ":34: environments.production.shop.error_rate.tarket: no field that an environment can change "
            "(did you mean 'target'?)",
            id="an override of an unknown field",
        ),
        pytest.param(
            ("  severity: info", "  target: 3"),
            ":3: defaults.target: no default; use window, ",
            id="a default that fits one benchmark alone",
        ),
        pytest.param(
            ("required: true", "schedule:\n          applies: []"),
            ":16: systems.shop.benchmarks.0.schedule.applies: applies holds no hours",
            id="an empty schedule",
        ),
        pytest.param(
            ("required: true", "schedule:\n          applies:\n          - {days: mon-fri}\n          - {days: fri}"),
            ":18: systems.shop.benchmarks.0.schedule.applies.1: fri 00:00 is in the hours before these already",
            id="an overlapping schedule",
        ),
        pytest.param(
            ("metric: memory,", "metric: checkout_time,"),
            ":22: systems.shop.benchmarks.3.metric: metric 'checkout_time' stands there 2 times",
            id="a metric twice",
        ),
        pytest.param(
            ("target: 6000 requests/min, critical: 50/s, source: throughput}", "target: 1, critical: 2, source: span}"),
            ":28: systems.pay.benchmarks.1.span: orders: needs span, the name of the spans",
            id="spans without a name",
        ),
        pytest.param(("name: Pay", "name: Pay\n    calls: [shoop]"), ":26: systems.pay.calls.0: pay calls 'shoop', "
                     "which is no system here (did you mean 'shop'?)", id="an unknown system"),
        pytest.param(
            ("- {metric: orders,", "- {metric: quick, from: response_time, max_window: 20s, min_samples: 12001}\n"
             "      - {metric: orders,"),
            ":28: systems.pay.benchmarks.1.min_samples: quick: 100 requests/s, this system's throughput, never give "
            "min_samples 12001 within max_window 20 s; even the longest, 120 s, holds 12000; use fewer",
            id="samples that no window holds",
        ),
        pytest.param(
            ("  pay:\n", "  1:\n"), ":23: systems.1: 1 is no text; write the name in quotes", id="a number for a system"
        ),
        pytest.param(
            ("  staging:", "  1:"), ":35: environments.1: 1 is no text; write", id="a number for an environment"
        ),
        pytest.param(("    name: Pay\n", "    name: Pay\n    name: Pai\n"), ":26: key 'name' stands on line 25 already",
                     id="a key twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_its_fix(path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in DOCUMENT
    with pytest.raises(ConfigError) as refused:
        load(path, DOCUMENT.replace(*change, 1), environment="production")
    assert str(refused.value).startswith(f"{path}{said}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "- 1\n", "systems: 3\n", "systems: {shop: 3}\n", "systems: {shop: {benchmarks: [3, {metric: 4}]}}\n",
     "systems: {3: {}}\nenvironments: [1]\n", "defaults: 3\nsystems: {}\n", "systems: {a: {defaults: 1}}\n",
     "environments: {a: {b: 1}}\nsystems: {b: {benchmarks: {}}}\n", "systems: {a: {benchmarks: [{from: [1]}]}}\n"],
)  # fmt: skip
def test_a_document_of_another_shape_is_one_line(path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(path, text, environment="a")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{metric: a.b, target: 1, critical: 0.5, source: throughput}", ["metric: 'a.b' has"], id="one"),
        pytest.param("3", ["benchmarks.0: must be a mapping, FIELD: VALUE (got 3)"], id="no mapping"),
    ],
)
def test_a_mistake_is_told_without_what_follows_from_it(path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load(path, f"systems:\n  shop:\n    service: s\n    name: S\n    benchmarks:\n      - {text}\n")
    assert all(part in str(refused.value) for part in said)
    assert ";" not in str(refused.value).replace("bus;", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("systems: 3", "systems: must be a mapping, NAME: VALUE (got 3)"),
        ("systems: {a: {service: s, name: A, benchmarks: {}}}", "systems.a.benchmarks: must be a list"),
        ("systems: {a: {service: s, name: 3, benchmarks: []}}", "systems.a.name: must be text; in YAML a number,"),
        ("systems: {a: {service: s, name: A, benchmarks: []}}", "systems.a.benchmarks: must hold at least 1"),
    ],
)
def test_another_shape_is_told_in_the_words_of_yaml(path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(path, text)
    assert said in str(refused.value)


def test_scenarios_and_actions_are_those_beside_the_file(path: Path) -> None:
    folder = path.parent / "scenarios"
    folder.mkdir()
    (folder / "checkout.yaml").write_text("name: checkout\nsteps: [{system: shop, action: pay}]\n")
    (folder / "broken.yaml").write_text("name: [")
    load(path)
    with pytest.raises(
        ConfigError, match=r":18: .*no scenario 'chekout' \(did you mean 'checkout'\?\); there are checkout"
    ):
        load(path, DOCUMENT.replace("scenarios: checkout", "scenarios: chekout"))
    with pytest.raises(ConfigError, match=r":19: .*no action 'payy' of shop in checkout \(did you mean 'pay'\?\)"):
        load(path, DOCUMENT.replace("[pay]", "[payy]"))
