"""The house rules that code can check: who may import whom, what decisions may know, how large a file may be."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("generator", "collector", "validator", "scaler", "forwarder", "console")
CODE = sorted(path for folder in ("services", "shared", "deploy", "examples") for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_shared_and_never_another_service(service: str) -> None:
    others = tuple(f"services.{other}" for other in SERVICES if other != service)
    for path in (ROOT / "services" / service).rglob("*.py"):
        wrong = [name for name in imports(path) if name.startswith(others)]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_shared_depends_on_nothing_above_it() -> None:
    for path in (ROOT / "shared").rglob("*.py"):
        wrong = [name for name in imports(path) if name.startswith(("services", "deploy", "examples", "tests"))]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_services_know_neither_the_examples_nor_how_they_are_deployed() -> None:
    for path in (ROOT / "services").rglob("*.py"):
        # The console is the operator's door: it alone may start the embedded stack.
        above = ("examples",) if path.is_relative_to(ROOT / "services" / "console") else ("examples", "deploy")
        wrong = [name for name in imports(path) if name.startswith(above)]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


IO = ("asyncio", "nats", "faststream", "psycopg", "aiohttp", "logging", "os", "time", "socket", "subprocess")
DECISIONS = {
    "generator": (
        "curve",
        "token_clock",
        "shards",
        "event_stream",
        "template",
        "answer",
        "compiled",
        "trace_budget",
        "registry",
        "membership",
    ),
    "collector": (
        *("batching", "windows", "copy_rows", "samples", "span_queue", "span_tally"),
        *("usage", "docker_stats", "cgroup_files", "net_dev", "source_config"),
    ),
    "validator": (
        *("windows", "verdict", "lifecycle", "score", "report", "recommendation"),
        *("burn_rate", "budgets", "spans"),
        *("levels", "significance", "samples", "measuring", "judging", "window_verdict", "checkpoint"),
        *("span_tree", "hops", "hop_table", "attention"),
        *("breaking_point", "knee", "stress_lead", "stress_limits", "stress_margin", "stress_measuring"),
        *("stress_report", "stress_search", "stress_step", "stress_track"),
        *(
            "course",
            "hop_change",
            "growth",
            "generator_course",
            "evidence",
            "change_rules",
            "run_rules",
            "run_evidence",
        ),
        *("comparison", "report_advice", "report_parts", "report_tests", "report_timeline", "report_traces"),
    ),
    "forwarder": ("choosing", "retrying"),
    "scaler": (
        *("situation", "candidates", "decision", "scale_up", "scale_down", "policy", "history", "effect"),
        *("readings", "response_times", "open_breaches", "chain", "records"),
        *("gates", "guard", "ledger", "rollback", "escalation", "advice", "generator"),
        *(
            f"resources/{name}"
            for name in (
                *("leak", "lives", "load_share", "usage", "calls", "efficiency", "consumption", "findings"),
                *("item", "observed", "queueing", "bounds", "worth", "right_sizing", "network", "storage", "plan"),
                *("resize", "resize_effect", "outcome"),
            )
        ),
        *("orders", "ordered", "verification", "explanation", "rederivation"),
        *("demand", "offered", "sizing"),
        *(
            f"simulation/{name}"
            for name in ("replicas", "course", "hpa", "knative", "step", "oracle", "own", "policies", "score", "plot")
        ),
        *(f"targets/{name}" for name in ("engine_api", "swarm_service", "swarm_room", "containers")),
        *("targets/kubernetes_state", "targets/kubernetes_room"),
    ),
    "console": tuple(
        f"comparing/{name}"
        for name in ("slots", "dependence", "two_runs", "measures", "verdict", "likeness", "change_points", "rows")
    ),
}


@pytest.mark.parametrize(("service", "module"), [(s, m) for s, modules in DECISIONS.items() for m in modules])
def test_a_decision_knows_no_clock_no_environment_and_no_outside(service: str, module: str) -> None:
    path = ROOT / "services" / service / f"{module}.py"
    wrong = [name for name in imports(path) if name.split(".")[0] in IO]
    assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"
    assert not [node for node in ast.walk(parsed(path)) if isinstance(node, ast.AsyncFunctionDef)]


def test_sql_has_one_home() -> None:
    verbs = ("SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "COPY ")
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.lstrip().startswith(verbs), f"{path.relative_to(ROOT)}: {node.value[:60]}"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_short_enough_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    assert not text.strip() or ast.get_docstring(parsed(path)), "no module docstring"
