"""What a run will be is decided, and refused, before anything starts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from services.console.catalogue import Catalogue
from services.console.hosts import LOOPBACK, check_proxy, check_target, read_host
from services.console.plan import (
    LoadOptions,
    Request,
    check_targets,
    desire,
    name_run,
    plan_load,
    plan_run,
    read_targets,
)
from services.console.suite_plan import forgive, plan_suite, worst_exit_code
from shared.contracts.base import RunId
from shared.contracts.run import ENDLESS_S, Limits
from shared.contracts.scenario import Scenario, Step
from shared.contracts.suite import Suite, SuiteRun, scale_duration_s, scale_users
from shared.errors import ConfigError
from shared.settings import PROJECT_ROOT

NOW = datetime(2026, 11, 23, 15, 30, 12, tzinfo=UTC)
CATALOGUE = Catalogue(PROJECT_ROOT / "config")


def small(name: str = "small", **changes: object) -> Scenario:
    step = Step(action="look", system="autmatrix", path="/")
    return Scenario(name=name, system="autmatrix", steps=[step]).model_copy(update=changes)


def test_a_load_is_the_scenarios_own_unless_the_options_say_otherwise() -> None:
    scenario = small(users=7, duration=100.0, ramp_up=20.0)
    own = plan_load(scenario, LoadOptions())
    assert (own.users, own.duration_s, own.ramp_up_s) == (7, 100, 20)
    asked = plan_load(scenario, LoadOptions(users=3, duration_s=50, ramp_up_s=1, rate=9, profile="spike"))
    assert (asked.users, asked.duration_s, asked.ramp_up_s, asked.rate, asked.profile) == (3, 50, 1, 9, "spike")


def test_a_shortened_load_takes_at_most_a_quarter_of_itself_to_ramp_up() -> None:
    assert plan_load(small(duration=900.0, ramp_up=30.0), LoadOptions(duration_s=60)).ramp_up_s == 15


def test_a_ramp_up_longer_than_the_duration_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--ramp-up: 61 s is longer than the duration of 60 s \(scenario small\)"):
        plan_load(small(), LoadOptions(ramp_up_s=61))


@pytest.mark.parametrize(
    ("scale", "users", "duration_s"), [(0.1, 10, 30), (0.001, 1, 5), (1, 100, 300), (2, 200, 600)], ids=str
)
def test_a_scale_holds_for_users_and_duration_with_a_floor(scale: float, users: int, duration_s: float) -> None:
    load = plan_load(small(users=100, duration=300.0), LoadOptions(scale=scale))
    assert (load.users, load.duration_s) == (users, duration_s)


def test_a_run_shorter_than_the_floor_is_not_stretched_by_scaling() -> None:
    assert scale_duration_s(3, 0.1) == 3
    assert scale_users(1, 0.1) == 1


def test_several_scenarios_run_together_but_none_twice() -> None:
    planned = plan_run([small("a"), small("b")], LoadOptions())
    assert [load.scenario.name for load in planned.loads] == ["a", "b"]
    assert planned.title == "a and 1 more"
    with pytest.raises(ConfigError, match="'a' is named twice"):
        plan_run([small("a"), small("a")], LoadOptions())


def test_the_platform_suite_scales_users_and_durations() -> None:
    suite = CATALOGUE.load("platform")
    assert isinstance(suite, Suite)
    runs = plan_suite(suite, CATALOGUE.load_scenario, LoadOptions(scale=0.1))
    loads = [(run.loads[0].users, run.loads[0].duration_s, run.loads[0].ramp_up_s) for run in runs]
    assert loads == [(1, 5, 0), (5, 30, 7.5), (2, 30, 7.5)]
    assert {run.suite for run in runs} == {"platform"}


def test_a_suite_together_is_one_run() -> None:
    suite = Suite(name="both", order="together", runs=[SuiteRun(scenario="a"), SuiteRun(scenario="b", users=3)])
    (run,) = plan_suite(suite, small, LoadOptions())
    assert [(load.scenario.name, load.users) for load in run.loads] == [("a", 10), ("b", 3)]


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 1], 1), ([1, 3, 0], 1), ([1, 4], 4)],
    ids=str,
)
def test_a_suite_ends_with_its_worst_code(codes: list[int], code: int) -> None:
    assert worst_exit_code(codes) == code


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://LOCALHOST:1",
        "https://[::1]:8443",
        "http://localhost.:80",
    ],
)
def test_a_loopback_target_is_allowed_by_default(url: str) -> None:
    assert check_target("autmatrix", url + "/", LOOPBACK) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com", "host 'example.com' is not in the allow-list"),
        ("http://127.0.0.1.example.com/", "not in the allow-list"),
        ("http://localhost@example.com/", "carries credentials"),
        ("ftp://localhost/", "no http or https URL"),
        ("localhost:8000", "no http or https URL"),
        ("http://localhost:99999", "is no URL"),
        ("http://[::1", "is no URL"),
        ("http://localhost/?a=1", "query"),
        ("http:///x", "no http or https URL"),
    ],
)
def test_a_target_elsewhere_or_malformed_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match="target of autmatrix") as caught:
        check_target("autmatrix", url, LOOPBACK)
    assert said in str(caught.value)


def test_a_proxy_elsewhere_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"proxy of things: .*host 'proxy.example.com' is not in the allow-list"):
        check_proxy("things", "http://proxy.example.com:3128", ("127.0.0.1",))
    check_proxy("things", "http://127.0.0.1:3128", ("127.0.0.1",))


def test_credentials_in_a_target_are_not_repeated_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        check_target("autmatrix", "http://me:hunter2@localhost/", LOOPBACK)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "http://a", "a:80", "a/b", "*.a"])
def test_a_host_of_the_allow_list_is_a_name_only(text: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        read_host(text)


def test_hosts_are_compared_as_urls_do() -> None:
    assert [read_host(text) for text in (" Example.COM. ", "[::1]")] == ["example.com", "::1"]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["relay=http://localhost"], "unknown system 'relay' (did you mean 'relaycore'?); the scenarios use"),
        (["relaycore"], "no SYSTEM=URL"),
        (["relaycore=http://localhost:1", "relaycore=http://localhost:2"], "given twice"),
    ],
)
def test_a_wrong_target_option_is_named(pairs: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_targets(pairs, ["relaycore", "autmatrix"])
    assert said in str(caught.value)


def test_a_system_without_target_is_named() -> None:
    with pytest.raises(ConfigError, match="no target for system 'relaycore'; give --target relaycore=URL"):
        check_targets(["autmatrix", "relaycore"], {"autmatrix": "http://localhost"}, LOOPBACK)


@pytest.mark.parametrize(
    ("title", "run"),
    [
        ("cross_system_integration", "20261123-153012-cross-system-integration-ab12"),
        ("Größe & more", "20261123-153012-gr-e-more-ab12"),
        ("x" * 200, f"20261123-153012-{'x' * 60}-ab12"),
    ],
    ids=["plain", "other letters", "long"],
)
def test_a_run_is_named_by_when_and_what(title: str, run: str) -> None:
    assert name_run(title, NOW, "ab12") == run
    TypeAdapter(RunId).validate_python(run)


def test_no_secret_stands_in_the_desired_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_SECRET_PLATFORM_PASSWORD", "hunter2-in-the-environment")
    scenarios = [CATALOGUE.load_scenario(name) for name in CATALOGUE.scenario_names()]
    targets = dict.fromkeys(("autmatrix", "relaycore", "neuroweaver"), "http://127.0.0.1:1")
    desired = desire(plan_run(scenarios, LoadOptions()), "run-1", Request("local", targets, LOOPBACK), NOW)
    body = desired.model_dump_json()
    assert "hunter2" not in body
    assert "${secret.platform_password}" in body


def test_an_unknown_scenario_is_answered_with_the_nearest_and_all_known() -> None:
    with pytest.raises(ConfigError) as caught:
        CATALOGUE.load("cross_system")
    said = str(caught.value)
    assert "unknown scenario 'cross_system' (did you mean 'cross_system_integration'?)" in said
    assert "relaycore_request_routing" in said
    assert "known suites: platform" in said


def test_a_suite_is_not_run_as_one_scenario_of_several() -> None:
    with pytest.raises(ConfigError, match="'platform' is a suite"):
        CATALOGUE.load_scenario("platform")


def test_a_scenario_is_found_by_its_path_too(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nsystem: s\nsteps: [{action: look, system: s, path: /}]\n")
    assert CATALOGUE.load_scenario(str(path)).name == "own"
    with pytest.raises(ConfigError, match="No such file"):
        CATALOGUE.load(str(tmp_path / "none.yaml"))


def test_a_shipped_document_is_named_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "a.yaml").write_text("name: b\nsystem: s\nsteps: [{action: l, system: s, path: /}]\n")
    with pytest.raises(ConfigError, match="'b' differs from the file's name"):
        Catalogue(tmp_path).load("a")


def test_a_run_that_only_prepares_may_be_insufficient_but_not_missed() -> None:
    suite = CATALOGUE.load("platform")
    assert isinstance(suite, Suite)
    sign_in, autmatrix, _ = plan_suite(suite, CATALOGUE.load_scenario, LoadOptions())
    assert [forgive(sign_in, code) for code in (0, 1, 3, 4)] == [0, 1, 0, 4]
    assert forgive(autmatrix, 3) == 3


def test_what_the_command_line_says_of_arrivals_caps_and_tags_is_in_the_run() -> None:
    options = LoadOptions(rate=5.0, stages=((10.0, 0.5), (20.0, 1.0)), max_waiting=3)
    request = Request("local", {}, LOOPBACK, limits=Limits(rate=9.0), tags={"commit": "1a"})
    made = desire(plan_run([small(tags={"team": "a", "commit": "0"})], options), "run-1", request, NOW)
    (load,) = made.loads
    assert (load.duration_s, load.spacing, load.max_waiting) == (30.0, "even", 3)
    assert [(stage.duration_s, stage.level) for stage in load.stages] == [(10.0, 0.5), (20.0, 1.0)]
    assert made.limits.rate == 9.0
    assert made.tags == {"team": "a", "commit": "1a"}


def test_a_canary_is_without_end_and_jittered_unless_it_is_said() -> None:
    load = plan_load(small(), LoadOptions(profile="canary", rate=1.0))
    assert (load.duration_s, load.spacing) == (ENDLESS_S, "poisson")
    short = plan_load(small(), LoadOptions(profile="canary", rate=1.0, duration_s=60.0, spacing="even"))
    assert (short.duration_s, short.spacing) == (60.0, "even")


def test_spacing_without_a_rate_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="--spacing: poisson is about arrivals"):
        plan_load(small(), LoadOptions(spacing="poisson"))
