"""A plan as one page that needs nothing else."""

from datetime import datetime
from pathlib import Path

import jinja2

from services.scaler.commands.plan_text import PARTS, tell_impact
from services.scaler.resources.plan import Plan

TEMPLATES = Path(__file__).parents[1] / "templates"


def write_page(path: Path, plan: Plan, since: datetime, until: datetime) -> None:
    """Raises ``OSError`` where it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("plan.html.j2").render(
        plan=plan, since=since, until=until, parts=PARTS, impact=tell_impact(plan)
    )
    path.write_text(page, encoding="utf-8")
