"""Which target a service gets: by its own word, the document's, the deployment's, or none; and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.scaler.readings import SampleWindow
from services.scaler.settings import ScalerSettings
from services.scaler.targets.docker_engine import DockerTarget
from services.scaler.targets.local import LocalTarget
from services.scaler.targets.opening import open_targets
from services.scaler.targets.swarm import SwarmTarget
from services.scaler.targets.target import SamplesOnly
from shared.config import load_document
from shared.contracts.scaling_rules import ScalingRules
from shared.contracts.scaling_targets import SwarmTarget as Named
from shared.errors import ConfigError
from shared.settings import read_settings

SWARM = '{"kind": "swarm", "stack": "platform"}'


def rules(target: Any = None, own: Any = None) -> ScalingRules:
    service = {"system": "relaycore", "min": 1, "max": 3, "up": [{"metric": "cpu_usage", "above": 0.8}]}
    document = {"services": {"relaycore": {**service, **({"target": own} if own else {})}}}
    return ScalingRules.model_validate({**document, **({"target": target} if target else {})})


@pytest.mark.parametrize(
    ("own", "document", "environment", "expected"),
    [
        ({"kind": "docker"}, {"kind": "swarm"}, {"TIDEGATE_SCALER_TARGET": SWARM}, DockerTarget),
        (None, {"kind": "local", "url": "http://a:1"}, {"TIDEGATE_SCALER_TARGET": SWARM}, LocalTarget),
        (None, None, {"TIDEGATE_SCALER_TARGET": SWARM, "TIDEGATE_PLATFORM_URL": "http://a:1"}, SwarmTarget),
        (None, None, {"TIDEGATE_PLATFORM_URL": "http://a:1"}, LocalTarget),
        (None, None, {}, SamplesOnly),
    ],
    ids=["its own", "the document's", "the deployment's", "the platform's", "none"],
)
async def test_the_nearest_word_holds(
    own: Any, document: Any, environment: dict[str, str], expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = read_settings(ScalerSettings)
    async with open_targets(rules(document, own), settings, SampleWindow()) as targets:
        assert type(targets["relaycore"]) is expected


@pytest.mark.parametrize("url", ["nowhere", "ftp://host"])
async def test_an_address_that_leads_to_no_engine_is_refused_with_the_field(url: str) -> None:
    with pytest.raises(ConfigError, match=rf"services\.relaycore\.target\.url: {url}.*unix:///var/run/docker\.sock"):
        async with open_targets(rules({"kind": "swarm", "url": url}), ScalerSettings(), SampleWindow()):
            pass


def test_a_pause_between_two_looks_after_which_nothing_counts_as_having_held_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIDEGATE_SCALER_TICK_S", "20")
    with pytest.raises(ConfigError, match=r"TIDEGATE_SCALER_TICK_S.*less than 15"):
        read_settings(ScalerSettings)


def test_the_name_in_a_swarm_is_the_services_that_of_its_stack_or_another() -> None:
    assert Named(kind="swarm").name_of("relaycore") == "relaycore"
    assert Named(kind="swarm", stack="shop").name_of("relaycore") == "shop_relaycore"
    assert Named(kind="swarm", name="routing").name_of("relaycore") == "routing"


def test_a_name_and_a_stack_together_are_refused(tmp_path: Path) -> None:
    document = rules().model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    (tmp_path / "scaling.yaml").write_text(
        yaml.safe_dump({**document, "target": {"kind": "swarm", "name": "a", "stack": "b"}})
    )
    with pytest.raises(ConfigError, match=r"target.*give it or stack, not both"):
        load_document(ScalingRules, tmp_path / "scaling.yaml")
