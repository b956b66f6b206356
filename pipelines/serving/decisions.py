"""The decision log: every score that was handed out, whole, in one SQLite file of the home.

A row is written before its answer is sent. With an idempotency key the rows of a call are kept
under it, so that the same call again gives the same answer and decides nothing anew.
"""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import CardlineError

_SCHEMA = """
create table if not exists decisions (
    decision_id text primary key, decided_at text not null, client text not null,
    model_name text not null, model_version text not null, model_state text not null,
    reference text, score real, feature_vector_sha256 text not null, answer text not null,
    idempotency_key text, request_sha256 text not null, row_no integer not null
);
create unique index if not exists decisions_by_key
    on decisions (client, model_name, idempotency_key, row_no) where idempotency_key is not null;
create index if not exists decisions_by_reference on decisions (reference);
"""


@dataclass(frozen=True)
class ScoreCall:
    """One request for scores: from whom, for which model, with which body, under which key.

    Of body and key the SHA-256 stands here and in the log.
    """

    client: str
    model: str
    idempotency_key: str | None
    request_sha256: str


class KeyReused(Exception):
    """The idempotency key was used for another request."""


class KeyTaken(Exception):
    """Another server of this home has just answered a call with the same key."""


class LogUnavailable(CardlineError):
    """The log cannot be written now: nothing is decided without it."""


class DecisionLog:
    """Append-only; a commit survives the end of the process, not necessarily a power cut."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._con = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._con.execute("pragma busy_timeout = 5000")
        self._con.execute("pragma journal_mode = wal")
        self._con.execute("pragma synchronous = normal")
        self._con.executescript(_SCHEMA)

    def earlier(self, call: ScoreCall) -> list[dict[str, Any]] | None:
        """What the call was answered before, row by row; None if it is new.

        Raises `KeyReused` where its key belongs to a request with another body.
        """
        if call.idempotency_key is None:
            return None
        try:
            rows = self._con.execute(
                "select request_sha256, answer from decisions "
                "where client = ? and model_name = ? and idempotency_key = ? order by row_no",
                [call.client, call.model, call.idempotency_key],
            ).fetchall()
        except sqlite3.Error as error:
            raise LogUnavailable(f"the decision log cannot be read now: {error}") from error
        if not rows:
            return None
        if rows[0][0] != call.request_sha256:
            raise KeyReused
        return [json.loads(answer) for _, answer in rows]

    def append(self, call: ScoreCall, answers: list[dict[str, Any]]) -> None:
        """Keep the answers to a call, all or none."""
        try:
            self._con.execute("begin immediate")
            self._con.executemany(
                "insert into decisions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        answer["decision_id"],
                        answer["decided_at"],
                        call.client,
                        call.model,
                        answer["model"]["version"],
                        answer["model"]["state"],
                        answer["reference"],
                        answer["score"],
                        answer["feature_vector_sha256"],
                        json.dumps(answer),
                        call.idempotency_key,
                        call.request_sha256,
                        row_no,
                    )
                    for row_no, answer in enumerate(answers)
                ],
            )
            self._con.commit()
        except sqlite3.Error as error:
            self._con.rollback()
            if isinstance(error, sqlite3.IntegrityError):
                raise KeyTaken from error
            raise LogUnavailable(f"the decision log cannot be written now: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._con.close()
