"""Which events an endpoint hears, when it is tried again, and what of its configuration is refused."""

import base64
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.documents import check_documents
from services.forwarder.app import warn_of_unknown
from services.forwarder.choosing import Told, told_of, wants
from services.forwarder.retrying import MOST_S, PATIENCE_S, Answer, answer_of, pause_s
from services.forwarder.settings import ForwarderSettings, check_hosts, keys_of
from shared.config import load_document, parse
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.webhooks import Endpoint, Filter, Webhooks, find_unknown
from shared.errors import ConfigError
from shared.settings import PROJECT_ROOT
from tests.unit.breaches import ESCALATED, OPENED, RESOLVED, UPDATED, acknowledged, breach

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def endpoint(**fields: Any) -> Endpoint:
    return Endpoint.model_validate({"name": "pager", "url": "http://127.0.0.1:1/", "secret": "pager", **fields})


def heard(receiver: Endpoint, story: list[Breach]) -> list[int]:
    """Revisions that the endpoint is sent, when it takes each of them."""
    told: Told | None = None
    sent = []
    for one in story:
        if wants(receiver, one, told):
            sent.append(one.revision)
            told = told_of(one)
    return sent


SILENCED: dict[str, Any] = {"silenced_by": ("s1",)}
CRITICAL: dict[str, Any] = {"level": "critical"}
STORY = [
    breach(1, OPENED),
    breach(2, UPDATED),
    breach(3, UPDATED, acknowledged=acknowledged(3)),
    breach(4, UPDATED, acknowledged=acknowledged(3)),
    breach(5, ESCALATED, **CRITICAL),
    breach(6, UPDATED, **CRITICAL),
    breach(7, RESOLVED, **CRITICAL),
]


@pytest.mark.parametrize(
    ("fields", "story", "expected"),
    [
        pytest.param({}, STORY, [1, 3, 5, 7], id="what changed, and not how the value goes on"),
        pytest.param({"updates": True}, STORY, [1, 2, 3, 4, 5, 6, 7], id="everything where it is asked for"),
        pytest.param({"when": {"levels": ["critical"]}}, STORY, [5, 7], id="critical alone begins at the escalation"),
        pytest.param({"when": {"systems": ["autmatrix"]}}, STORY, [], id="another system"),
        pytest.param({"when": {"metrics": ["routing_latency"]}}, STORY, [1, 3, 5, 7], id="its metric"),
        pytest.param({"when": {"environments": ["production"]}}, STORY, [], id="another environment"),
        pytest.param({"when": {"severities": ["page"]}}, [breach(severity="page")], [1], id="its severity"),
        pytest.param({"when": {"severities": ["page"]}}, [breach(severity="ticket")], [], id="another severity"),
        pytest.param({}, STORY[3:], [4, 5, 7], id="one that joins in the middle begins with what comes next"),
        pytest.param({}, STORY[6:], [], id="the end of what was never told"),
        pytest.param({}, [breach(1, **SILENCED), breach(2, UPDATED, **SILENCED), breach(3, RESOLVED)], [],
                     id="silenced throughout"),
        pytest.param({}, [breach(1, **SILENCED), breach(2, UPDATED)], [2], id="a silence that ended while it lasts"),
        pytest.param({}, [breach(1), breach(2, RESOLVED, **SILENCED)], [1, 2], id="the end is told, silenced or not"),
        pytest.param(
            {"when": {"levels": ["critical"]}},
            [breach(1), breach(2, ESCALATED, **SILENCED, **CRITICAL), breach(3, UPDATED, **CRITICAL)],
            [3],
            id="escalated in silence, told when it ended",
        ),
        pytest.param(
            {},
            [breach(1), breach(2, ESCALATED, **SILENCED, **CRITICAL), breach(3, UPDATED, **CRITICAL)],
            [1, 3],
            id="worse than what was told",
        ),
        pytest.param({}, [breach(5), breach(5), breach(4, ESCALATED), breach(6, RESOLVED), breach(6, RESOLVED)], [5, 6],
                     id="nothing twice and nothing older"),
    ],
)  # fmt: skip
def test_an_endpoint_hears(fields: dict[str, Any], story: list[Breach], expected: list[int]) -> None:
    assert heard(endpoint(**fields), story) == expected


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from(list(BreachStatus)), st.booleans(), st.booleans()), max_size=40
    ),
    st.booleans(),
)
def test_in_whatever_order_events_come_an_endpoint_hears_of_an_episode_forwards_only(
    told: list[tuple[int, BreachStatus, bool, bool]], updates: bool
) -> None:
    story = [
        breach(revision, status, level="critical" if critical else "target", silenced_by=("s",) if silenced else ())
        for revision, status, critical, silenced in told
    ]
    sent = heard(endpoint(updates=updates), story)
    assert sent == sorted(set(sent))
    resolved = {one.revision for one in story if one.status is RESOLVED}
    assert not resolved & set(sent[:-1]) or sent[-1] not in sent[:-1]


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, Answer.TAKEN), (204, Answer.TAKEN), (301, Answer.REFUSED), (400, Answer.REFUSED), (410, Answer.REFUSED)]
    + [(status, Answer.AGAIN) for status in (408, 425, 429, 500, 502, 503)],
)
def test_an_answer_is_taken_tried_again_or_refused(status: int, answer: Answer) -> None:
    assert answer_of(status) is answer


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_pauses_grow_to_a_limit_and_are_spread(attempt: int, seed: int) -> None:
    pause = pause_s(attempt, random.Random(seed))
    step = min(MOST_S, 2.0 ** (min(attempt, 20) - 1))
    assert step / 2 <= pause <= step


@pytest.mark.parametrize(
    ("retry_after", "least"),
    [("30", 30), ("999999999", PATIENCE_S), ("", 0.5), ("soon", 0.5), ("-5", 0.5), ("²", 0.5)],
)
def test_a_receiver_may_ask_for_a_longer_pause(retry_after: str, least: float) -> None:
    assert least <= pause_s(1, random.Random(1), retry_after) <= max(1.0, least)


def test_a_key_is_the_scheme_s_and_several_replace_each_other() -> None:
    assert keys_of(endpoint(), {"pager": f"{SECRET} {SECRET.removeprefix('whsec_')}"}) == (b"k" * 32, b"k" * 32)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "not base64!", "hidden-hidden-hidden-hidden"])
def test_a_secret_that_signs_badly_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(ConfigError, match="TIDEGATE_WEBHOOK_SECRET_PAGER") as refused:
        keys_of(endpoint(), {"pager": text})
    assert not text or text == "whsec_" or text not in str(refused.value)


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="TIDEGATE_WEBHOOK_SECRET_PAGER is not set"):
        keys_of(endpoint(), {"other": SECRET})


def test_a_host_off_the_allow_list_is_refused() -> None:
    document = Webhooks(endpoints=(endpoint(url="https://Hooks.Example.com/in"),))
    check_hosts(document, {"hooks.example.com"})
    with pytest.raises(ConfigError, match=r"'hooks.example.com' is not in the allow-list \(localhost\)"):
        check_hosts(document, {"localhost"})
    assert ForwarderSettings(webhook_hosts="a.example, [::1]").webhook_hosts == {"a.example", "::1"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "ftp://x/"}, "is no http or https URL"),
        ({"url": "http://user:pass@x/"}, "carries credentials"),
        ({"url": "http://x:99999/"}, "is no URL"),
        ({"name": "Pager!"}, "endpoints.0.name"),
        ({"timeout": "soon"}, "'soon' is no duration"),
        ({"when": {"level": ["critical"]}}, "endpoints.0.when.level: unknown field"),
        ({"when": {"levels": ["bad"]}}, "endpoints.0.when.levels.0"),
    ],
)
def test_a_document_that_cannot_be_used_names_its_field(fields: dict[str, Any], said: str) -> None:
    entry = {"name": "pager", "url": "http://127.0.0.1/", "secret": "pager", **fields}
    with pytest.raises(ConfigError) as refused:
        parse(Webhooks, {"endpoints": [entry]}, "webhooks.yaml")
    assert said in str(refused.value)
    assert "pass@" not in str(refused.value)


def test_an_endpoint_that_waits_for_what_never_comes_is_told_of() -> None:
    when = Filter(systems=("shop", "shp"), metrics=("error_rate_burn_rate", "throughput_drift", "eror_rate"))
    document = Webhooks(endpoints=(endpoint(when=when),))
    metrics = {"error_rate", "error_rate_burn_rate", "throughput_drift"}
    assert list(find_unknown(document, {"shop", "pay"}, metrics)) == [
        "endpoints.0.when.systems: no benchmark has 'shp' (did you mean 'shop'?), so pager never hears of it; there "
        "are pay, shop",
        "endpoints.0.when.metrics: no benchmark has 'eror_rate' (did you mean 'error_rate'?), so pager never hears of "
        "it; there are error_rate, error_rate_burn_rate, throughput_drift",
    ]


@pytest.mark.parametrize(("metric", "warned"), [("eror_rate", 1), ("error_rate", 0), ("throughput_drift", 0)])
def test_the_forwarder_warns_by_the_benchmarks_that_it_can_read(
    metric: str, warned: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    document = Webhooks(endpoints=(endpoint(when=Filter(systems=("autmatrix",), metrics=(metric,))),))
    warn_of_unknown(document, ForwarderSettings())
    assert len(caplog.records) == warned
    warn_of_unknown(document, ForwarderSettings(config_dir=tmp_path))
    assert len(caplog.records) == warned, "no benchmarks there, nothing to say"


def test_a_stack_is_not_started_with_an_endpoint_that_waits_for_what_never_comes(tmp_path: Path) -> None:
    for name in ("benchmarks.yaml", "scaling.yaml"):
        (tmp_path / name).write_bytes((PROJECT_ROOT / "config" / name).read_bytes())
    webhooks = tmp_path / "webhooks.yaml"
    line = "endpoints: [{name: pager, url: 'http://127.0.0.1:1/', secret: pager, when: {metrics: [METRIC]}}]\n"
    webhooks.write_text(line.replace("METRIC", "cpu_usage"))
    settings = ForwarderSettings(config_dir=tmp_path)
    check_documents(settings, "local")
    webhooks.write_text(line.replace("METRIC", "cpu_usge"))
    with pytest.raises(ConfigError, match=r"endpoints\.0\.when\.metrics: no benchmark has 'cpu_usge' \(did you mean"):
        check_documents(settings, "local")


def test_names_are_unique() -> None:
    entry = {"name": "pager", "url": "http://127.0.0.1/", "secret": "pager"}
    with pytest.raises(ConfigError, match="'pager' stands here twice"):
        parse(Webhooks, {"endpoints": [entry, entry]}, "webhooks.yaml")


def test_the_shipped_document_forwards_to_nobody_and_its_example_can_be_used(tmp_path: Path) -> None:
    shipped = PROJECT_ROOT / "config" / "webhooks.yaml"
    assert load_document(Webhooks, shipped).endpoints == ()
    lines = [line.removeprefix("# ") for line in shipped.read_text().splitlines()]
    example = lines[lines.index("endpoints:") : -1]
    (tmp_path / "example.yaml").write_text("\n".join(example))
    (one,) = load_document(Webhooks, tmp_path / "example.yaml").endpoints
    assert (one.name, one.retry_for) == ("pager", 1_800.0)
