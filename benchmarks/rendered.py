"""dbt models as plain SQL over tables of one's own, without dbt: whole builds, never a delta."""

from pathlib import Path
from typing import Any

import jinja2

from pipelines.transform import DBT_DIR

_MACROS = ("bureau", "engine", "quoted", "statistics", "versions", "recent", "windows")


def rendered(model: str, **tables: str) -> str:
    """The query of `model`, reading `tables` in place of the models that it refers to.

    A model that `tables` does not name is read by its own name.
    """
    [path] = (DBT_DIR / "models").rglob(f"{model}.sql")
    return _environment(tables).from_string(_macros() + path.read_text()).render()


def _environment(tables: dict[str, str]) -> jinja2.Environment:
    environment = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=False)
    environment.globals |= {
        "adapter": _Adapter(environment),
        "config": lambda **_: "",
        "in_order_of": lambda *_: "",
        "is_delta": lambda: False,
        "is_since_touched": lambda *_: "true",
        "is_touched": lambda *_: "true",
        "new_files": lambda: "",
        "where_key_is_new": lambda *_: "where true",
        "ref": lambda name: tables.get(name, name),
        "return": lambda value: value,
    }
    return environment


def _macros() -> str:
    folder = DBT_DIR / "macros"
    return "".join(Path(folder / f"{name}.sql").read_text() for name in _MACROS)


class _Adapter:
    """DuckDB's: of a macro that is dispatched, the default."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def dispatch(self, name: str) -> Any:
        module = self._environment.from_string(_macros()).module
        return getattr(module, f"default__{name}")
