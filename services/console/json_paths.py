"""Every JSON path of a scenario is compiled once before anything starts, so that no worker meets a bad one."""

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.parser import parse

from shared.contracts.scenario import Scenario, Step, Stream
from shared.errors import ConfigError


def check_json_paths(scenario: Scenario) -> None:
    """``ConfigError`` names scenario, action and the first path that cannot be read."""
    for step in scenario.steps:
        for field, path in _paths(step):
            try:
                parse(path)
            except (JSONPathError, AttributeError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"scenario {scenario.name}: action {step.action}: {field}: {path!r} is no JSON path, e.g. $.id"
                ) from error


def _paths(step: Step) -> list[tuple[str, str]]:
    captured = {name: how if isinstance(how, str) else how.json_path for name, how in step.capture.items()}
    paths = [(f"capture.{name}", path) for name, path in captured.items() if path is not None]
    paths += [("expect.json", condition.json_path) for condition in step.expect.json_is]
    if step.poll:
        paths.append(("poll.until", step.poll.until.json_path))
        if step.poll.fail_when:
            paths.append(("poll.fail_when", step.poll.fail_when.json_path))
    if step.websocket and step.websocket.until:
        paths.append(("websocket.until", step.websocket.until.json_path))
    if isinstance(step.stream, Stream) and step.stream.token is not None:
        paths.append(("stream.token", step.stream.token))
    if step.valid_for and step.valid_for.startswith("$"):
        paths.append(("valid_for", step.valid_for))
    return paths
