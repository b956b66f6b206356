"""HTML pages that need nothing beside themselves, in one style."""

from functools import cache
from typing import Any

from pipelines.settings import PACKAGE_DIR

_FOLDERS = [PACKAGE_DIR / room / "templates" for room in ("finance", "features")]


@cache
def template(name: str) -> Any:
    """A template of any room; every value is escaped except what `markup` lets through."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDERS), autoescape=True, undefined=StrictUndefined
    )
    # Our own style sheet and charts are markup; every value of the data is escaped.
    environment.filters["markup"] = Markup
    return environment.get_template(name)


def style() -> str:
    """The style sheet of every page."""
    return (_FOLDERS[0] / "report.css").read_text(encoding="utf-8")
