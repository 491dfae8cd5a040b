"""A HAR 1.2 log becomes a draft: its requests in order, what one answer gave and a later request used as captures."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from services.console.importing.answers import Answers
from services.console.importing.draft import Draft, Wish, draft_scenario
from services.console.importing.entries import LONGEST_PAUSE_S, Entry, is_static, read_entries, why_not
from services.console.importing.naming import (
    DOLLAR,
    Names,
    action_name,
    one_line,
    scenario_name,
    singular,
    snake,
    system_id,
)
from services.console.importing.recorded_headers import SENT_AFRESH, kept_headers
from services.console.importing.secrecy import Secrets, is_secret_name
from services.console.importing.weaving import UnwritableError, Weaver, note_secrets
from shared.contracts.sendable import TEMPLATE
from shared.errors import ConfigError

SHORTEST_PAUSE_S = 1.0
# A shorter one is a setting such as a language, which stands elsewhere too.
SHORTEST_COOKIE = 16
VERSIONS = ("1.1", "1.2")


def import_har(document: Any, source: str, stem: str, wish: Wish) -> Draft:
    """The draft of a log's requests; ``ConfigError`` names the field that is wrong, or says why nothing is left."""
    log = document.get("log") if isinstance(document, dict) else None
    if not isinstance(log, dict):
        raise ConfigError(f"{source}: log: missing; a HAR document has its requests there")
    if str(log.get("version", "1.2")) not in VERSIONS:
        raise ConfigError(f"{source}: log.version: HAR {one_line(str(log['version']), 20)!r} is not known; 1.2 is")
    entries = log.get("entries")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{source}: log.entries: no requests in it")
    return _Import(source, wish, read_entries(entries, source)).draft(stem)


class _Import:
    def __init__(self, source: str, wish: Wish, entries: list[Entry]) -> None:
        self._source, self._wish, self._entries = source, wish, entries
        self._secrets = Secrets(recorded=True)
        self._answers = Answers(Names())
        self._weaver = Weaver(self._secrets, self._answers.find)
        self._steps: list[dict[str, Any]] = []
        self._left_out: list[str] = []
        self._static = 0
        self._cut = False
        self._actions: dict[tuple[str, str], str] = {}
        self._names: dict[str, Names] = {}
        self._systems = self._name_systems()

    def _name_systems(self) -> dict[str, str]:
        """System by host (with its port) of the requests that are wanted, in the order of the log."""
        wish = self._wish
        hosts = list(
            dict.fromkeys(entry.host for entry in self._entries if why_not(entry) is None and not is_static(entry))
        )
        if wish.hosts:
            for wanted in wish.hosts:
                if not any(_is_host(host, wanted) for host in hosts):
                    raise ConfigError(
                        f"--host: no request to {wanted!r} in {self._source}; there are: {', '.join(hosts) or 'none'}"
                    )
            hosts = [host for host in hosts if any(_is_host(host, wanted) for wanted in wish.hosts)]
        if wish.system and len(hosts) > 1:
            raise ConfigError(
                f"--system: one name, but {len(hosts)} hosts ({', '.join(hosts)}); choose one with --host"
            )
        names = Names(longest=32, taken=frozenset())
        return {host: wish.system or names.give(system_id(host)) for host in hosts}

    def draft(self, stem: str) -> Draft:
        for entry in self._entries:
            if entry.host in self._systems:
                _note(self._secrets, entry)
        # What is said of requests left out names no secret, and captures nothing.
        self._reader = Weaver(self._secrets.copy(), self._answers.peek)
        latest_end_s: float | None = None
        for entry in self._entries:
            if entry.begin_s is not None:
                if latest_end_s is not None and self._steps and entry.begin_s - latest_end_s > SHORTEST_PAUSE_S:
                    self._pause(entry.begin_s - latest_end_s)
                latest_end_s = max(latest_end_s or 0.0, entry.begin_s + entry.took_s)
            self._take(entry)
        if not self._steps:
            raise ConfigError(f"{self._source}: nothing to import: none of {len(self._entries)} requests {self._why()}")
        used = {step["system"] for step in self._steps}
        targets = {
            self._systems[entry.host]: f"{entry.scheme}://{entry.host}"
            for entry in reversed(self._entries)
            if entry.host in self._systems and self._systems[entry.host] in used
        }
        scenario = draft_scenario(
            scenario_name(stem),
            one_line("Recorded on " + ", ".join(host for host, system in self._systems.items() if system in used)),
            self._steps,
            {DOLLAR: "$"} if self._weaver.has_dollar else {},
            **self._client(),
        )
        origin = f"Imported from {self._source}, a HAR log of {len(self._entries)} requests."
        return Draft(scenario, origin, self._advice(), self._left_out, targets, self._secrets.places)

    def _why(self) -> str:
        return f"can be sent: {'; '.join(self._left_out[:3]) or 'images, styles, scripts and preflights only'}"

    def _take(self, entry: Entry) -> None:
        if entry.host not in self._systems and (self._wish.hosts or why_not(entry) is None):
            return
        if is_static(entry) or entry.method == "OPTIONS":
            self._static += 1
            return
        try:
            step = self._step(entry)
        except UnwritableError as error:
            where = self._reader.path(entry.target.partition("?")[0], "")
            self._left_out.append(f"request {entry.number}, {entry.method} {where}: {error}")
            return
        self._steps.append(step)
        resource = _resource(step["path"])
        self._answers.hear(step, entry.answer, resource)

    def _step(self, entry: Entry) -> dict[str, Any]:
        reason = why_not(entry)
        if reason:
            raise UnwritableError(reason)
        place = f"request {entry.number}"
        system = self._systems[entry.host]
        step: dict[str, Any] = {"system": system, "method": entry.method}
        step["path"] = self._weaver.path(entry.target, place)
        step["action"] = self._action(system, entry.method, step["path"])
        step["headers"] = {
            name: value if name.lower() in SENT_AFRESH else self._weaver.header(name, value, place)
            for name, value in kept_headers(entry, self._afresh()).items()
        }
        if entry.has_body:
            step["body"] = self._weaver.body(entry.body(), place)
        step["expect"] = {"status": 200 if entry.status == 304 else entry.status}
        return step

    def _afresh(self) -> int:
        return sum(any(name.lower() in SENT_AFRESH for name in step["headers"]) for step in self._steps)

    def _action(self, system: str, method: str, path: str) -> str:
        """One action for all requests to the same place, whatever the ids in its path."""
        words = [_word(segment) for segment in path.partition("?")[0].split("/") if segment]
        place = (system, f"{method} {'/'.join(words)}")
        if place not in self._actions:
            names = self._names.setdefault(system, Names(longest=80, taken=frozenset()))
            self._actions[place] = names.give(action_name("_".join([method.lower(), *(words or ["root"])]), "request"))
        return self._actions[place]

    def _pause(self, seconds: float) -> None:
        step = self._steps[-1]
        before_s = float(str(step.get("think_time", {}).get("min", "0s")).removesuffix("s"))
        self._cut = self._cut or before_s + seconds > LONGEST_PAUSE_S
        pause = f"{min(before_s + seconds, LONGEST_PAUSE_S):.1f}s"
        step["think_time"] = {"min": pause, "max": pause}

    def _client(self) -> dict[str, Any]:
        kept = [entry for entry in self._entries if entry.host in self._systems]
        given = next((entry.number for entry in kept if entry.sets_cookie), None)
        sent = given is not None and any(entry.sends_cookie for entry in kept if entry.number > given)
        return {"client": {"transport": "aiohttp", "cookies": True}} if sent else {}

    def _advice(self) -> list[str]:
        advice = ["What an answer gave is captured; what else differs from user to user belongs in `vars`."]
        if any("think_time" in step for step in self._steps):
            advice.append("think_time is the pause as recorded; widen min and max for users who differ.")
        if self._cut:
            advice.append(f"Pauses longer than {LONGEST_PAUSE_S:g} s were cut to that.")
        if any(entry.sends_cookie for entry in self._entries):
            advice.append("Recorded cookies are left out; with client.cookies each user keeps those that answers set.")
        if len(self._systems) > 1:
            advice.append("Each host is a system of its own; import again with --host to have only some of them.")
        if self._static:
            advice.append(f"{self._static} requests for images, styles, scripts and preflights are left out.")
        return advice


def _note(secrets: Secrets, entry: Entry) -> None:
    """Secrets of a request under names that say so, to be known before the first place they stand in."""
    for pair in entry.target.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        if is_secret_name(unquote(key)):
            secrets.note(unquote(value), unquote(key))
    for name, value in entry.headers:
        if name.lower() == "cookie":
            for cookie in value.split(";"):
                if len(cookie.partition("=")[2]) >= SHORTEST_COOKIE:
                    secrets.note(cookie.partition("=")[2], cookie.partition("=")[0].strip())
        elif is_secret_name(name):
            secrets.note(value.split(" ", 1)[-1] if name.lower().endswith("authorization") else value, name)
    for name, value in entry.form:
        if is_secret_name(name):
            secrets.note(value, name)
    try:
        if entry.has_body:
            note_secrets(secrets, entry.body())
    except UnwritableError:
        return


def _is_host(host: str, wanted: str) -> bool:
    return wanted.lower() in (host, host.rsplit(":", 1)[0] if not host.endswith("]") else host)


def _word(segment: str) -> str:
    template = TEMPLATE.search(segment)
    if template:
        return template[1].removeprefix("secret.")
    text = unquote(segment)
    digits = sum(sign.isdigit() for sign in text)
    return "id" if digits == len(text) or (digits >= 3 and len(text) >= 16) else snake(text, "x")


def _resource(path: str) -> str:
    """``thing`` of ``/api/things/7/``, for an answer whose id is just called that."""
    words: Mapping[str, None] = dict.fromkeys(
        singular(snake(segment))
        for segment in path.partition("?")[0].split("/")
        if segment and _word(segment) != "id" and not TEMPLATE.search(segment)
    )
    return list(words)[-1] if words else ""
