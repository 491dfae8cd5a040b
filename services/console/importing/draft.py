"""A scenario as imported, with what its author has to know, and both written as YAML that people edit."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.console.importing.naming import one_line
from shared.contracts.scenario import MAX_ACTIONS
from shared.errors import ConfigError

STEP_FIELDS = ("action", "system", "method", "path", "headers", "body", "capture", "expect", "think_time")
MOST_LEFT_OUT = 40


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: names in place of those of the document, and which part of it. Empty: all of it."""

    name: str | None = None
    system: str | None = None
    hosts: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()


@dataclass(slots=True)
class Draft:
    """``scenario`` is plain data. ``targets``: URL by system; ``secrets``: where each is used, by its name."""

    scenario: dict[str, Any]
    origin: str
    advice: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)


class _Dumper(yaml.SafeDumper):
    """Each value written out where it stands, lists indented, text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    block = "\n" in text and text.isprintable() is False and all(line == line.rstrip() for line in text.split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else None)


_Dumper.add_representer(str, _text)


def draft_scenario(
    name: str, title: str, steps: list[dict[str, Any]], variables: dict[str, str], **more: Any
) -> dict[str, Any]:
    """The scenario of steps, fields in the order people read them; ``ConfigError`` for too many actions."""
    actions = len({(step["system"], step["action"]) for step in steps})
    if actions > MAX_ACTIONS:
        raise ConfigError(f"{actions} actions are more than the {MAX_ACTIONS} of a scenario")
    scenario: dict[str, Any] = {"name": name, "title": title, "system": steps[0]["system"], "users": 1}
    scenario |= {"duration": "60s", **more}
    if variables:
        scenario["vars"] = variables
    scenario["steps"] = [_ordered(step) for step in steps]
    return scenario


def _ordered(step: dict[str, Any]) -> dict[str, Any]:
    empty: tuple[Any, ...] = (None, {}) if step.get("body") is None else ({},)
    kept = {key: step[key] for key in STEP_FIELDS if key in step and (key == "body" or step[key] not in empty)}
    return {key: value for key, value in kept.items() if key != "body" or value is not None}


def to_yaml(draft: Draft) -> str:
    """Comments (whence, what to edit, what is missing), then the scenario in block style, a blank line per step."""
    whole = {key: value for key, value in draft.scenario.items() if key != "steps"}
    steps = [_dump({"steps": [step]}).removeprefix("steps:\n") for step in draft.scenario["steps"]]
    comments = "".join(
        f"# {one_line(line, 400)}\n" if not line.startswith("  ") else f"#{line}\n" for line in _said(draft)
    )
    return f"{comments}{_dump(whole)}steps:\n" + "\n".join(steps)


def _dump(data: Any) -> str:
    written = _written(data, allow_unicode=True)
    # Unescaped, these would be read as line breaks.
    return written if not re.search("[\x85\u2028\u2029\ufeff]", written) else _written(data, allow_unicode=False)


def _written(data: Any, *, allow_unicode: bool) -> str:
    style: dict[str, Any] = {"sort_keys": False, "width": 100, "default_flow_style": False}
    return str(yaml.dump(data, Dumper=_Dumper, allow_unicode=allow_unicode, **style))


def _said(draft: Draft) -> list[str]:
    lines = [draft.origin, "To be edited: users and duration are those of a first try."]
    lines += draft.advice
    if draft.secrets:
        lines.append("Secrets, each set where the workers run:")
        lines += [f"  TIDEGATE_SECRET_{name.upper()}: {one_line(place)}" for name, place in draft.secrets.items()]
    targets = [f"--target {system}={url}" for system, url in draft.targets.items()]
    hosts = dict.fromkeys(urlsplit(url).hostname or "HOST" for url in draft.targets.values())
    if targets:
        lines.append("Run with:")
        lines.append(
            one_line(f"tidegate run FILE {' '.join([*targets, *(f'--allow-host {host}' for host in hosts)])}", 2000)
        )
        lines[-1] = "  " + lines[-1]
    if draft.left_out:
        lines.append("Left out:")
        lines += [f"  - {one_line(line)}" for line in draft.left_out[:MOST_LEFT_OUT]]
        if len(draft.left_out) > MOST_LEFT_OUT:
            lines.append(f"  - and {len(draft.left_out) - MOST_LEFT_OUT} more")
    return lines
