"""``config/benchmarks.yaml`` as it is written: defaults, benchmarks derived from others, and what environments change.

Everything is resolved to plain ``Benchmarks`` of one environment before it is validated, and each value remembers where
it was written, so that an error names the line to be changed. From weak to strong: the file's ``defaults``, the
system's, the benchmark that is derived ``from`` with what the environment changes of it, the benchmark itself, and what
the environment changes of that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.config import Field, Written, parse, read_written
from shared.contracts.benchmarks import Benchmark, Benchmarks
from shared.errors import ConfigError, closest

Raw = dict[str, Any]
_DEFAULTS = ("window", "max_window", "significance", "severity", "schedule", "required", "weight", "instances")
"""What means the same for every source, so that it can be said once for all."""
_OWN = ("metric", "from")


@dataclass(slots=True)
class Entry:
    """One benchmark with all that it inherits, and where each value was written."""

    values: Raw = field(default_factory=dict)
    origins: dict[str, Field] = field(default_factory=dict)

    def take(self, values: Raw, at: Field) -> None:
        for name, value in values.items():
            self.values[name] = value
            self.origins[name] = (*at, name)


@dataclass(frozen=True, slots=True)
class EffectiveBenchmarks:
    """What holds in one environment, and by (system, metric) and field the line it comes from.

    ``systems``: those of the file, and those that the scenarios beside it call.
    """

    benchmarks: Benchmarks
    systems: frozenset[str]
    lines: Mapping[tuple[str, str], Mapping[str, int]]
    path: Path


def load_benchmarks(path: Path, environment: str) -> EffectiveBenchmarks:
    """Read, resolve and validate; ``ConfigError`` names file, line, field and what would be right."""
    written = read_written(path)
    resolver = _Resolver(written, environment)
    benchmarks = parse(Benchmarks, resolver.resolve(), str(path), resolver.line)
    steps = _steps_of(path.parent / "scenarios")
    _refuse_unknown_steps(benchmarks, steps, resolver)
    called = {system for some in steps.values() for system, _ in some}
    return EffectiveBenchmarks(benchmarks, frozenset(called | set(benchmarks.systems)), resolver.lines(), path)


def environments_of(path: Path) -> tuple[str, ...]:
    """Environments for which the file changes something."""
    data = read_written(path).data
    return tuple(map(str, _mapping(_mapping(data).get("environments"))))


class _Resolver:
    """Leaves alone what is no mapping where one should be: the contract says what is wrong with it."""

    def __init__(self, written: Written, environment: str) -> None:
        self._written, self._environment = written, environment
        self._raw = _mapping(written.data)
        self._entries: dict[tuple[str, str], Entry] = {}
        self._places: dict[tuple[str, int], Entry] = {}

    def resolve(self) -> Any:
        """The document of the environment, as plain data for ``Benchmarks``."""
        if not isinstance(self._written.data, dict):
            return self._written.data
        self._check_names()
        self._check_defaults(("defaults",))
        systems = {system: self._system(str(system), body) for system, body in self._systems().items()}
        self._check_environments()
        rest = {name: value for name, value in self._raw.items() if name not in ("defaults", "environments")}
        return rest | ({"systems": systems} if isinstance(self._raw.get("systems"), dict) else {})

    def line(self, where: Field) -> int:
        """Line on which a field of the resolved document was written."""
        match where:
            case ("systems", str(system), "benchmarks", int(place), str(name), *rest):
                entry = self._places.get((system, place))
                if entry is not None and name in entry.origins:
                    return self._written.line((*entry.origins[name], *rest))
        return self._written.line(where)

    def lines(self) -> dict[tuple[str, str], dict[str, int]]:
        return {
            key: {name: self._written.line(origin) for name, origin in entry.origins.items()}
            for key, entry in self._entries.items()
        }

    @property
    def path(self) -> Path:
        return self._written.path

    def refuse(self, at: Field, message: str) -> ConfigError:
        return ConfigError(f"{self._written.path}:{self._written.line(at)}: {'.'.join(map(str, at))}: {message}")

    def _systems(self) -> Raw:
        return _mapping(self._raw.get("systems"))

    def _system(self, system: str, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        self._check_defaults(("systems", system, "defaults"))
        rest = {name: value for name, value in body.items() if name != "defaults"}
        listed = body.get("benchmarks")
        if not isinstance(listed, list):
            return rest
        found = []
        for place, raw in enumerate(listed):
            if not isinstance(raw, dict):
                found.append(raw)
                continue
            entry = self._places[system, place] = self._entry(system, place, ())
            found.append(entry.values)
        return rest | {"benchmarks": found}

    def _entry(self, system: str, place: int, through: tuple[tuple[str, int], ...]) -> Entry:
        raw: Raw = self._listed(system)[place]
        at: Field = ("systems", system, "benchmarks", place)
        entry = Entry()
        base = raw.get("from")
        if base is None:
            entry.take(_mapping(self._raw.get("defaults")), ("defaults",))
            entry.take(_mapping(_mapping(self._systems()[system]).get("defaults")), ("systems", system, "defaults"))
        else:
            if (system, place) in through:
                raise self.refuse((*at, "from"), f"{base!r} is derived from this one in turn; end the circle")
            found = self._find(system, base, (*at, "from"))
            inherited = self._entry(*found, (*through, (system, place)))
            entry.values = {name: value for name, value in inherited.values.items() if name != "metric"}
            entry.origins = {name: origin for name, origin in inherited.origins.items() if name != "metric"}
        entry.take({name: value for name, value in raw.items() if name != "from"}, at)
        metric = str(raw.get("metric"))
        changes = self._changes(system, metric)
        entry.take(changes, ("environments", self._environment, system, metric))
        self._entries.setdefault((system, metric), entry)
        return entry

    def _find(self, system: str, base: Any, at: Field) -> tuple[str, int]:
        """Place of the benchmark called ``metric`` or ``system/metric``."""
        owner, _, metric = str(base).rpartition("/")
        names = self._metrics(owner or system)
        if metric not in names:
            raise self.refuse(at, f"no benchmark {base!r}{closest(metric, names)}; there are {_listing(names)}")
        return owner or system, names.index(metric)

    def _listed(self, system: str) -> list[Any]:
        listed = _mapping(self._systems().get(system)).get("benchmarks")
        return listed if isinstance(listed, list) else []

    def _metrics(self, system: str) -> list[str]:
        return [str(_mapping(raw).get("metric")) for raw in self._listed(system)]

    def _changes(self, system: str, metric: str) -> Raw:
        environments = _mapping(self._raw.get("environments"))
        return _mapping(_mapping(_mapping(environments.get(self._environment)).get(system)).get(metric))

    def _check_names(self) -> None:
        """What is looked up by name must have been read as text, which a bare ``1`` or ``yes`` is not."""
        for at in (("systems",), ("environments",)):
            for name in _mapping(self._raw.get(*at)):
                if not isinstance(name, str):
                    raise self.refuse((*at, str(name)), f"{name!r} is no text; write the name in quotes")

    def _check_defaults(self, at: Field) -> None:
        body = self._raw
        for part in at[:-1]:
            body = _mapping(body.get(str(part)))
        if "defaults" not in body:
            return
        if not isinstance(body["defaults"], dict):
            raise self.refuse(at, "must be a mapping of fields to values")
        for name in body["defaults"]:
            if name not in _DEFAULTS:
                raise self.refuse((*at, name), f"no default{closest(str(name), _DEFAULTS)}; use {', '.join(_DEFAULTS)}")

    def _check_environments(self) -> None:
        """Every environment, not only ours: a slip in another one's part is found before it is needed."""
        environments = self._raw.get("environments", {})
        for at, body in _walk(environments, ("environments",), 4):
            if not isinstance(body, dict):
                raise self.refuse(at, f"must be a mapping, {_SHAPE}")
            known: list[str] = []
            match at:
                case (_, _, str(system)):
                    known = list(map(str, self._systems()))
                    if system not in known:
                        raise self.refuse(
                            at, f"no system {system!r}{closest(system, known)}; there are {_listing(known)}"
                        )
                case (_, _, str(system), str(metric)):
                    known = self._metrics(system)
                    if metric not in known:
                        what = f"no benchmark {metric!r} of {system}{closest(metric, known)}"
                        raise self.refuse(at, f"{what}; there are {_listing(known)}")
                    for name in body:
                        if name in _OWN or name not in Benchmark.model_fields:
                            near = closest(str(name), [one for one in Benchmark.model_fields if one not in _OWN])
                            raise self.refuse((*at, name), f"no field that an environment can change{near}")


_SHAPE = "environments: ENVIRONMENT: SYSTEM: METRIC: {field: value}"


def _walk(value: Any, at: Field, depth: int) -> Iterator[tuple[Field, Any]]:
    yield at, value
    if isinstance(value, dict) and len(at) < depth:
        for name, inner in value.items():
            yield from _walk(inner, (*at, str(name)), depth)


def _refuse_unknown_steps(benchmarks: Benchmarks, known: dict[str, set[tuple[str, str]]], resolver: _Resolver) -> None:
    """Scenarios and actions must be those of ``scenarios/*.yaml`` beside the file, where there is such a folder."""
    if not known:
        return
    for system, owner in benchmarks.systems.items():
        for place, one in enumerate(owner.benchmarks):
            at: Field = ("systems", system, "benchmarks", place)
            for number, scenario in enumerate(one.scenarios):
                if scenario not in known:
                    raise _no_such(
                        resolver, (*at, "scenarios", number), f"scenario {scenario!r}", scenario, list(known)
                    )
            chosen = one.scenarios or tuple(known)
            actions = sorted({action for name in chosen for owner_id, action in known[name] if owner_id == system})
            for number, action in enumerate(one.actions):
                if action not in actions:
                    of = f"action {action!r} of {system} in {', '.join(one.scenarios) or 'any scenario'}"
                    raise _no_such(resolver, (*at, "actions", number), of, action, actions)


def _no_such(resolver: _Resolver, at: Field, what: str, name: str, known: list[str]) -> ConfigError:
    where = ".".join(map(str, at))
    said = f"no {what}{closest(name, known)}; there are {_listing(known)}"
    return ConfigError(f"{resolver.path}:{resolver.line(at)}: {where}: {said}")


def _steps_of(folder: Path) -> dict[str, set[tuple[str, str]]]:
    """By scenario its (system, action); a file that is no scenario is another's matter."""
    found: dict[str, set[tuple[str, str]]] = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            body = _mapping(read_written(file).data)
        except ConfigError:
            continue
        steps = body.get("steps")
        found[str(body.get("name", file.stem))] = {
            (str(step.get("system")), str(step.get("action")))
            for step in (steps if isinstance(steps, list) else [])
            if isinstance(step, dict)
        }
    return found


def _mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}


def _listing(names: list[str]) -> str:
    return ", ".join(names) or "none"
