"""The pure parts behind the stand-in's surface: routing, tokens of access, trace context, counts, request fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.platform.ledger import Ledger, sum_ledgers
from examples.platform.replica.auth import AuthError, Authority, ServiceToken
from examples.platform.replica.autmatrix import read_workflow
from examples.platform.replica.fields import BadRequestError, parse_object
from examples.platform.replica.routing import MODELS, STRATEGIES, Strategy, decide_route
from examples.platform.replica.trace_context import TraceContext, read_trace_context

SECRET = "s" * 32
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


@given(
    tokens=st.integers(1, 10_000),
    strategy=st.sampled_from(STRATEGIES),
    preference=st.none() | st.sampled_from([model.name for model in MODELS]) | st.just("unheard-of"),
    is_specialized=st.booleans(),
)
def test_the_chosen_model_is_the_best_candidate_of_its_strategy(
    tokens: int, strategy: Strategy, preference: str | None, is_specialized: bool
) -> None:
    decision = decide_route(tokens, strategy, preference, is_specialized)
    chosen = next(candidate for candidate in decision.candidates if candidate.model == decision.model)
    if strategy == "cost":
        assert chosen.cost == min(candidate.cost for candidate in decision.candidates)
    if strategy == "latency":
        assert chosen.latency_ms == min(candidate.latency_ms for candidate in decision.candidates)
    assert decision.estimated_cost == chosen.cost
    if is_specialized:
        assert decision.provider == "neuroweaver"


def test_the_strategies_do_not_all_choose_the_same_model() -> None:
    assert len({decide_route(100, strategy).model for strategy in STRATEGIES}) == 3


def test_a_preference_on_offer_is_followed_and_one_that_is_not_is_said_so() -> None:
    assert decide_route(100, "cost", "nimbus-large").model == "nimbus-large"
    assert "'gpt-9' is not on offer" in decide_route(100, "cost", "gpt-9").reason


def test_a_token_is_good_until_it_expires() -> None:
    authority = Authority(SECRET, "pass", token_ttl_s=10)
    header = f"Bearer {authority.login('ada', 'pass', now=1000)}"
    authority.check(header, now=1009.9)
    with pytest.raises(AuthError, match="expired"):
        authority.check(header, now=1010)


def test_a_wrong_password_is_invalid_credentials() -> None:
    with pytest.raises(AuthError, match="invalid credentials"):
        Authority(SECRET, "pass", 10).login("ada", "pässword", now=0)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x.y.z", "Basic YTpi", "alg"])
def test_a_header_without_a_good_token_is_refused(header: str | None) -> None:
    with pytest.raises(AuthError):
        Authority(SECRET, "pass", 10).check(header, now=0)


def test_a_token_of_another_secret_is_refused() -> None:
    foreign = Authority("t" * 32, "pass", 10).issue("ada", now=0)
    with pytest.raises(AuthError, match="not valid"):
        Authority(SECRET, "pass", 10).check(f"Bearer {foreign}", now=0)


def test_a_service_token_is_renewed_before_it_expires() -> None:
    authority = Authority(SECRET, "pass", 30)
    token = ServiceToken(authority, "relaycore")
    first = token.header(now=100)
    assert token.header(now=119) == first
    assert token.header(now=121) != first
    authority.check(token.header(now=145), now=145)


def test_a_trace_context_goes_out_as_it_came_in() -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "a=1", "baggage": "run=7"}
    context = read_trace_context(headers)
    assert context.sampled
    assert context.headers() == headers


@pytest.mark.parametrize(
    "traceparent",
    ["", "garbage", f"ff{TRACEPARENT[2:]}", f"00-{'0' * 32}-{'cd' * 8}-01", f"00-{'ab' * 16}-{'0' * 16}-01"],
)
def test_a_malformed_traceparent_counts_as_none_and_drops_its_tracestate(traceparent: str) -> None:
    headers = {"traceparent": traceparent, "tracestate": "a=1", "baggage": "run=7"}
    assert read_trace_context(headers) == TraceContext(baggage="run=7")


def test_counts_are_kept_per_run_and_action_and_read_by_another_process(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path / "r.1.counts"), Ledger(tmp_path / "r.2.counts")
    for ledger in (first, first, second):
        ledger.count("run-1", "cross/login")
    second.count("run-2", "cross/login")
    # Read while both are open, as after a SIGKILL: nothing is flushed or closed first.
    paths = sorted(tmp_path.glob("r.*.counts"))
    assert sum_ledgers(paths, "run-1") == {"cross/login": 3}
    assert sum_ledgers(paths, "run-2") == {"cross/login": 1}
    assert second.counts("run-2") == {"run-2": {"cross/login": 1}}
    first.close()
    second.close()


def test_a_ledger_grows_with_its_names(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "r.1.counts")
    for number in range(500):
        ledger.count("run", f"action-{number}")
    assert sum_ledgers([tmp_path / "r.1.counts"], "run") == {f"action-{number}": 1 for number in range(500)}
    ledger.close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "n"}, "steps: is not a list"),
        ({"name": "n", "steps": []}, "steps: is not a list"),
        ({"steps": [{"type": "ai_task", "prompt": "p"}]}, "name: None is not a non-empty text"),
        ({"name": "n", "steps": [7]}, "steps[0]: is not an object"),
        ({"name": "n", "steps": [{"type": "email"}]}, "steps[0].type: 'email' is unknown"),
        ({"name": "n", "steps": [{"type": "ai_task"}]}, "steps[0].prompt: None is not"),
        (
            {"name": "n", "steps": [{"type": "ai_task", "prompt": "p", "use_specialized_model": "yes"}]},
            "steps[0].use_specialized_model: 'yes' is not of type bool",
        ),
    ],
)
def test_a_malformed_workflow_is_refused_with_the_field_named(body: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequestError) as refusal:
        read_workflow(body)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError, match="body: is not"):
        parse_object(body)
