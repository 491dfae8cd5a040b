"""A report as one self-contained page: no outside resource, everything escaped, light and dark."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.console.report_chart import Chart, draw_charts
from services.console.report_rows import (
    Dossier,
    ResultRow,
    list_comparisons,
    list_hops,
    list_results,
    list_streaming,
    list_workflows,
    result_totals,
    summarize,
)
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


def render_html(dossiers: list[Dossier]) -> str:
    """The page; several reports (a suite) stand one below the other."""
    pages = [_page(dossier) for dossier in dossiers]
    return _environment.get_template("report.html.j2").render(pages=pages)


def _page(dossier: Dossier) -> dict[str, Any]:
    charts: list[Chart] = draw_charts(dossier.report)
    results: list[ResultRow] = list_results(dossier.report)
    scaling = told(ScalingRecord.model_validate(record) for record in dossier.scaling)
    breaches = [Breach.model_validate(breach) for breach in dossier.breaches]
    return {
        "summary": summarize(dossier.report),
        "stress": read_stress(dossier.report),
        "comparisons": list_comparisons(dossier.report),
        "results": results,
        "totals": result_totals(dossier.report),
        "workflows": list_workflows(dossier.report),
        "hops": list_hops(dossier.report),
        "streaming": list_streaming(dossier.report),
        "breaches": [(breach, compare_breach(breach)) for breach in breaches],
        "scaling": [(record, tell_scaling(record)) for record in scaling],
        "charts": charts,
    }
