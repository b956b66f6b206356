"""Whether the online store has what was published, told without Feast where that can be: most runs
of a scheduler find nothing to do, and importing Feast takes longer than finding that out."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from pipelines.features.encoding import MARK_KEY
from pipelines.features.materialize import Mark, parse_mark, read_mark
from pipelines.features.publish import is_published, read_manifest
from pipelines.settings import get_settings


def is_filled(views: Iterable[str], through: datetime | None = None) -> bool:
    """Whether the online store of this home has `views` as they were published last.

    With `through` (UTC), also as of that moment. A home may have had another store meanwhile, and a
    store can come back from a backup. False also where the store cannot be reached: whoever fills
    it will say why.
    """
    settings = get_settings()
    if settings.online_store == "sqlite":
        marks = _marks(settings.feast_dir / "online.db")
    else:
        from redis.exceptions import RedisError

        from pipelines.features.registry import feature_store

        try:
            store = feature_store()
            marks = {view: mark for view in views if (mark := read_mark(store, view))}
        except RedisError:
            return False
    return all(_is_of_publication(view, marks, through) for view in views)


def _is_of_publication(view: str, marks: Mapping[str, Mark], through: datetime | None) -> bool:
    if view not in marks or not is_published(view):
        return False
    mark = marks[view]
    is_late = through is not None and mark.known_through < through
    return not is_late and mark.publication >= read_manifest(view).publication


def _marks(path: Path) -> dict[str, Mark]:
    """The marks of an SQLite store by view; each is written after the view's rows."""
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)) as con:
        tables = con.execute(
            "select name from sqlite_master where type = 'table' and sql like '%entity_key%'"
        ).fetchall()
        found = {
            name.removeprefix("cardline_"): con.execute(
                f"select value from {_quoted(name)} where entity_key = ?",  # noqa: S608
                [MARK_KEY],
            ).fetchone()
            for (name,) in tables
        }
    return {view: parse_mark(row[0].decode()) for view, row in found.items() if row}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
