"""What a step becomes when its run is compiled."""

from typing import Any

import pytest

from services.generator.compiled import CompiledStep, compile_run
from services.generator.event_stream import EventStream
from services.generator.transport import TokenRule
from shared.clock import Anchor
from shared.contracts.run import Load
from shared.errors import ConfigError
from tests.unit.scenarios import desired, scenario


def compiled(client: dict[str, Any] | None = None, **step: Any) -> CompiledStep:
    steps = [{"action": "look", "system": "shop", "path": "/things"} | step]
    load = Load(scenario=scenario(steps=steps, client=client or {}), users=1, duration_s=10)
    (made,) = compile_run(
        desired(loads=(load,)), {}, lambda system: EventStream("run-1", "w1", 1, system, Anchor.now())
    )
    return made.first


def test_every_request_names_its_run_its_action_and_its_sender() -> None:
    head = compiled(headers={"X-Colour": "red"}).endpoint.head
    assert "User-Agent: tidegate/" in head
    assert "(run run-1)\r\n" in head
    for line in ("Host: 127.0.0.1:9", "X-Colour: red", "X-Tidegate-Run: run-1", "X-Tidegate-Action: things/look"):
        assert f"\r\n{line}\r\n" in head


def test_a_host_of_the_steps_own_stands_alone() -> None:
    head = compiled(headers={"Host": "shop.example.com"}).endpoint.head
    assert head.lower().count("\r\nhost: ") == 1


def test_a_websocket_waits_for_its_message_and_times_each_as_a_token() -> None:
    until = {"json": "$.done", "equals": True}
    endpoint = compiled({"transport": "aiohttp"}, websocket={"until": until}, stream={"token": "$.t"}).endpoint
    assert endpoint.tokens == TokenRule("chunks", "$.t")
    assert endpoint.dialogue is not None
    said = (b'{"done": true}', b'{"done": false}', b"no JSON")
    assert [endpoint.dialogue.over(1, message) for message in said] == [True, False, False]
    counted = compiled({"transport": "aiohttp"}, websocket={"messages": 2}).endpoint.dialogue
    assert counted is not None
    assert [counted.over(heard, b"") for heard in (1, 2)] == [False, True]


def test_a_secret_that_a_worker_lacks_is_named_with_both_ways_to_give_it() -> None:
    with pytest.raises(
        ConfigError, match="set TIDEGATE_SECRET_KEY, or TIDEGATE_SECRET_KEY_FILE, where the workers run"
    ):
        compiled(headers={"X-Key": "${secret.key}"})
