"""A report as one self-contained page: no outside resource, everything escaped, light and dark, for print and phone.

Plotly stands in it once. The policy in its head lets only the page's own two scripts run, known by their hashes, and
nothing be fetched: what a report says could do nothing even where it got out of its place.
"""

import base64
import hashlib
import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from services.console.advice_rows import list_advice, list_load_tests
from services.console.report_charts import draw_course
from services.console.report_figure import Chart, Json
from services.console.report_rows import (
    Dossier,
    list_comparisons,
    list_generator,
    list_hops,
    list_results,
    list_streaming,
    list_workflows,
    result_totals,
    summarize,
)
from services.console.report_trace_charts import draw_hops, draw_percentiles, list_slow_calls
from services.console.stress_words import read_stress
from services.console.wording import compare_breach, tell_scaling, told
from shared.contracts.breach import Breach
from shared.contracts.scaling import ScalingRecord

_environment = Environment(
    loader=PackageLoader("services.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class _Figures:
    """The figures of a page, numbered in the order in which it asks for them.

    Lines over time mostly have the same moments: ``x`` is a number in ``moments``, which holds each list of them once.
    """

    def __init__(self) -> None:
        self._figures: list[Json] = []
        self._moments: dict[tuple[Any, ...], int] = {}

    def number(self, chart: Chart) -> int:
        data = [{**trace, "x": self._moments.setdefault(tuple(trace["x"]), len(self._moments))} for trace in chart.data]
        self._figures.append({"data": data, "layout": chart.layout})
        return len(self._figures) - 1

    def embed(self) -> Markup:
        """As JSON within an element: nothing in it can end the element."""
        whole = {"figures": self._figures, "moments": list(self._moments)}
        text = json.dumps(whole, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def render_html(dossiers: list[Dossier]) -> str:
    """The page; several reports (a suite) stand one below the other."""
    figures, plotly, script, css = _Figures(), get_plotlyjs(), _own("report.js"), _own("report.css")
    return _environment.get_template("report.html.j2").render(
        pages=[_page(dossier) for dossier in dossiers],
        number=figures.number,
        figures=figures.embed,
        script_hashes=Markup(" ".join(map(_hash, (plotly, script)))),  # noqa: S704 - base64
        plotly=Markup(plotly),  # noqa: S704 - the library's own text
        script=Markup(script),  # noqa: S704 - ours
        css=Markup(css),  # noqa: S704 - ours
    )


def _page(dossier: Dossier) -> dict[str, Any]:
    report = dossier.report
    scaling = told(ScalingRecord.model_validate(record) for record in dossier.scaling)
    breaches = [Breach.model_validate(breach) for breach in dossier.breaches]
    return {
        "summary": summarize(report),
        "stress": read_stress(report),
        "advice": list_advice(report),
        "comparisons": list_comparisons(report),
        "load_tests": list_load_tests(report),
        "results": list_results(report),
        "totals": result_totals(report),
        "workflows": list_workflows(report),
        "hops": list(zip(list_hops(report), map(draw_hops, report.get("hops") or ()), strict=True)),
        "slow_calls": list_slow_calls(report),
        "streaming": list_streaming(report),
        "breaches": [(breach, compare_breach(breach)) for breach in breaches],
        "scaling": [(record, tell_scaling(record)) for record in scaling],
        "generator": list_generator(report),
        "course": draw_course(dossier),
        "percentiles": draw_percentiles(report),
    }


def _own(name: str) -> str:
    loader = _environment.loader
    assert loader is not None  # noqa: S101 - set above
    return loader.get_source(_environment, name)[0]


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
