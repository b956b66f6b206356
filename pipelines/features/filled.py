"""Whether the online store has been filled, told without Feast where that can be: most runs of a
scheduler find nothing to do, and importing Feast takes longer than finding that out."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipelines.features.encoding import MARK_KEY
from pipelines.settings import get_settings


def is_filled() -> bool:
    """Whether the online store of this home knows how far it has been materialised.

    False also where it cannot be reached: whoever fills it will say why.
    """
    settings = get_settings()
    if settings.online_store == "sqlite":
        return _has_marks(settings.feast_dir / "online.db")
    from redis.exceptions import RedisError

    from pipelines.features.materialize import materialized_through
    from pipelines.features.registry import load_definitions

    try:
        return all(materialized_through(view) for view in load_definitions().views)
    except RedisError:
        return False


def _has_marks(path: Path) -> bool:
    """Whether an SQLite store has the mark of a view; it is written after the view's rows."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)) as con:
        tables = con.execute(
            "select name from sqlite_master where type = 'table' and sql like '%entity_key%'"
        ).fetchall()
        marks = (
            f"select 1 from {_quoted(name)} where entity_key = ?"  # noqa: S608
            for (name,) in tables
        )
        return any(con.execute(mark, [MARK_KEY]).fetchone() for mark in marks)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
