"""The shipped scenarios and suites carry the user's numbers and names."""

import pytest

from services.console.catalogue import Catalogue
from services.console.json_paths import check_json_paths
from services.console.plan import LoadOptions
from services.console.suite_plan import plan_suite
from shared.contracts.scenario import Scenario
from shared.contracts.suite import Suite
from shared.settings import PROJECT_ROOT

CATALOGUE = Catalogue(PROJECT_ROOT / "config")

ASKED = {
    "autmatrix_workflow_execution": (
        100,
        300,
        ["authenticate", "create_workflow", "execute_workflow_with_ai", "monitor_execution", "retrieve_results"],
    ),
    "relaycore_request_routing": (
        200,
        600,
        ["authenticate", "send_ai_request", "wait_for_response", "validate_routing_decision"],
    ),
    "neuroweaver_model_inference": (
        50,
        300,
        ["authenticate", "select_model", "send_inference_request", "process_response"],
    ),
    "cross_system_integration": (
        75,
        900,
        [
            "authenticate",
            "create_complex_workflow",
            "execute_with_model_selection",
            "monitor_cross_system_calls",
            "validate_results",
        ],
    ),
}


def scenario(name: str) -> Scenario:
    return CATALOGUE.load_scenario(name)


@pytest.mark.parametrize("name", ASKED)
def test_a_scenario_of_the_user_has_its_users_duration_and_actions(name: str) -> None:
    users, duration_s, actions = ASKED[name]
    found = scenario(name)
    assert (found.users, found.duration) == (users, duration_s)
    assert list(dict.fromkeys(step.action for step in found.steps)) == actions


@pytest.mark.parametrize(
    ("name", "mean_ms", "error_rate"),
    [("autmatrix_workflow_execution", 30_000, 0.01), ("cross_system_integration", 45_000, 0.02)],
)
def test_the_users_gates_stand_on_their_scenarios(name: str, mean_ms: float, error_rate: float) -> None:
    gates = {(gate.metric, gate.statistic): gate.limit for gate in scenario(name).targets}
    assert gates == {("workflow_execution_time", "mean"): mean_ms, ("error_rate", "rate"): error_rate}


@pytest.mark.parametrize("name", CATALOGUE.scenario_names())
def test_every_shipped_scenario_can_be_run(name: str) -> None:
    found = scenario(name)
    check_json_paths(found)
    for step in found.steps:
        signed_in = step.path == "/api/auth/login" or "Authorization" in step.headers
        assert signed_in, f"{step.action} goes without a token"


def test_the_cross_system_scenario_uses_autmatrix_and_neuroweaver_itself() -> None:
    assert scenario("cross_system_integration").systems == {"autmatrix", "neuroweaver"}


def test_the_platform_suite_is_the_users() -> None:
    suite = CATALOGUE.load("platform")
    assert isinstance(suite, Suite)
    runs = plan_suite(suite, CATALOGUE.load_scenario, LoadOptions())
    loads = [(run.title, run.loads[0].users, run.loads[0].duration_s) for run in runs]
    assert loads == [
        ("platform_sign_in", 3, 5),
        ("autmatrix_workflow_execution", 50, 300),
        ("cross_system_integration", 25, 300),
    ]
    assert scenario("platform_sign_in").systems == {"autmatrix", "relaycore", "neuroweaver"}
