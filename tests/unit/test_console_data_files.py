"""Data files: rows in the file's place, each kind of use, and one line for each mistake."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.console.catalogue import Catalogue
from services.console.plan import MAX_RUN_BYTES, LoadOptions, Request, desire, plan_load, plan_run
from services.generator.compiled import compile_run
from services.generator.event_stream import EventStream
from services.generator.user import VirtualUser
from shared.clock import Anchor
from shared.contracts.scenario import Scenario
from shared.errors import ConfigError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCENARIO = """
name: people
system: shop
users: 3
data:
  person: {file: people.csv, use: USE}
steps:
  - {action: greet, system: shop, method: POST, path: /greet, body: {to: "${person.name} <${person.mail}>"}}
"""
CSV = 'name,mail,unused\nAda,ada@example.org,1\n"Grace, H.",grace@example.org,2\nLin,lin@example.org,3\n'


def load(folder: Path, use: str = "cycled", rows: str = CSV, name: str = "people.csv") -> Scenario:
    (folder / "own.yaml").write_text(SCENARIO.replace("USE", use).replace("people.csv", name))
    (folder / name).write_text(rows)
    return Catalogue(folder).load_scenario(str(folder / "own.yaml"))


def test_rows_take_the_place_of_the_file_and_only_with_columns_that_are_used(tmp_path: Path) -> None:
    scenario = load(tmp_path)
    assert scenario.data["person"].rows[1] == {"name": "Grace, H.", "mail": "grace@example.org"}


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    lines = '{"name": "Ada", "mail": 7}\n\n{"name": "Lin", "mail": null}\n'
    assert load(tmp_path, rows=lines, name="people.jsonl").data["person"].rows[0]["mail"] == 7


@pytest.mark.parametrize(
    ("rows", "name", "said"),
    [
        ("name\nAda\n", "people.csv", "has no column 'mail'; it has: name"),
        ("name,mail\nAda\n", "people.csv", "row 1 has not as many fields"),
        ("name,mail\n", "people.csv", "has no rows"),
        ("{}\n[1]\n", "people.jsonl", "line 2: not a JSON object"),
        ("nonsense\n", "people.jsonl", "line 1"),
        ("name,mail\n", "people.xlsx", "neither .csv"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path: Path, rows: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.person") as raised:
        load(tmp_path, rows=rows, name=name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / "people.csv").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*people.csv"):
        Catalogue(tmp_path).load_scenario(str(tmp_path / "own.yaml"))


def test_unique_rows_must_do_for_all_users(tmp_path: Path) -> None:
    scenario = load(tmp_path, use="unique")
    assert plan_load(scenario, LoadOptions()).users == 3
    with pytest.raises(ConfigError, match="unique and has 3 rows for 4 users"):
        plan_load(scenario, LoadOptions(users=4))


def test_data_that_no_broker_takes_is_refused_before_anything_starts(tmp_path: Path) -> None:
    rows = "name,mail\n" + ("x" * 1000 + ",y\n") * (MAX_RUN_BYTES // 1000)
    request = Request("local", {"shop": "http://127.0.0.1:1"}, ("127.0.0.1",))
    with pytest.raises(ConfigError, match="fewer rows"):
        desire(plan_run([load(tmp_path, rows=rows)], LoadOptions()), "run-1", request, NOW)


@pytest.mark.parametrize(
    ("use", "names"),
    [
        ("unique", [["Ada"] * 4, ["Grace, H."] * 4, ["Lin"] * 4]),
        ("cycled", [["Grace, H.", "Lin", "Ada", "Grace, H."], ["Lin", "Ada", "Grace, H.", "Lin"]]),
    ],
)
async def test_which_row_an_iteration_has(tmp_path: Path, use: str, names: list[list[str]]) -> None:
    assert [seen for seen, _ in zip(rows_of(load(tmp_path, use), 4), names, strict=False)] == names


async def test_shared_rows_are_drawn_the_same_with_the_same_seed(tmp_path: Path) -> None:
    scenario = load(tmp_path, "shared")
    assert rows_of(scenario, 20) == rows_of(scenario, 20)
    assert {name for seen in rows_of(scenario, 20) for name in seen} == {"Ada", "Grace, H.", "Lin"}


def test_the_guides_scenario_is_one(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/scenarios.md").read_text()
    (tmp_path / "own.yaml").write_text(guide.partition("```yaml\n")[2].partition("```")[0])
    (tmp_path / "customers.csv").write_text("mail\n" + "".join(f"user-{n}@example.org\n" for n in range(20)))
    assert plan_load(Catalogue(tmp_path).load_scenario(str(tmp_path / "own.yaml")), LoadOptions()).users == 20


def rows_of(scenario: Scenario, iterations: int) -> list[list[str]]:
    """The names that each of three users sees."""
    request = Request("local", {"shop": "http://127.0.0.1:1"}, ("127.0.0.1",))
    run = desire(plan_run([scenario], LoadOptions()), "run-1", request, NOW)
    stream = EventStream("run-1", "w1", 1, "shop", Anchor.now())
    (compiled,) = compile_run(run, {}, lambda _: stream)
    nothing: Any = None
    share: Any = type("Share", (), {"run": "run-1", "start_us": 0, "seed": 5})
    seen = []
    for number in range(3):
        user = VirtualUser(number, compiled, share, nothing, nothing)
        seen.append([user.next_variables(0)["person.name"] for _ in range(iterations)])
    return seen
