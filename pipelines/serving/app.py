"""The ASGI application: one way in for every request, and what the routes do.

A request is authenticated, bounded, answered by a deadline, measured and written to the audit log,
whatever it asks for. It stands on ASGI alone: a web framework would cost more than the answer does.
"""

import asyncio
import hashlib
import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic_core import from_json, to_json

from pipelines.errors import CardlineError
from pipelines.features.pushes import SOURCE, VIEWS, Pusher, changes_of, parsed
from pipelines.features.reading import (
    NO_TIME,
    PRESENT,
    Plan,
    Plans,
    Reader,
    StoreUnavailable,
    UnknownName,
    Vectors,
    checked_inputs,
    read_vectors,
)
from pipelines.ingestion.sensitive import require_tokens
from pipelines.network import is_loopback
from pipelines.serving.audit import AuditLog
from pipelines.serving.decisions import DecisionLog, KeyReused, KeyTaken, LogUnavailable, ScoreCall
from pipelines.serving.limits import RateLimit
from pipelines.serving.metrics import Metrics
from pipelines.serving.openapi import document
from pipelines.serving.permissions import READ, WRITE, Permissions
from pipelines.serving.scorers import NoModel, Scorer, UnusableModel
from pipelines.serving.tokens import ALL, ANYBODY, METRICS, MODELS, PUSH, Client, Gate
from pipelines.settings import Settings

MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_ROWS = 2_000
MAX_SCORE_ROWS = 500
MAX_PUSH_ROWS = 500
BODY_SECONDS = 10.0
_ROWS_IN_THE_LOOP = 8
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_MAX_REFERENCE = 128
_JSON_TYPE = [(b"content-type", b"application/json")]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class Refused(Exception):
    """An answer other than 200, with its reason for the client."""

    def __init__(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


@dataclass
class Call:
    """One request on its way; `service` and `rows` are filled in as they become known."""

    route: str
    headers: dict[bytes, list[bytes]]
    receive: _Receive
    client: Client
    service: str = ""
    rows: int = 0
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: list(_JSON_TYPE))


class App:
    """The server of one home. `read` and `push` are the online store's reader and writer."""

    def __init__(self, settings: Settings, read: Reader, push: Pusher) -> None:
        self._settings = settings
        self._read = read
        self._pusher = push
        self._seconds = settings.serve_deadline_ms / 1000
        self._plans = Plans()
        self._gate = Gate(settings)
        self._permissions = Permissions()
        self._limit = RateLimit(settings.serve_requests_per_second)
        self._scorers = {name: Scorer(name) for name in MODELS}
        self._decisions = DecisionLog(settings.decisions_path)
        self._audit = AuditLog(settings.serve_logs_dir)
        self._metrics = Metrics()
        self._under_way: set[tuple[str, str, str]] = set()
        self._routes: dict[str, tuple[str, Callable[[Call], Awaitable[bytes]]]] = {
            "/get-online-features": ("POST", self._get_online_features),
            "/push": ("POST", self._push),
            "/v1/push": ("POST", self._push),
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
            "/metrics": ("GET", self._metrics_text),
            "/openapi.json": ("GET", self._openapi),
        }
        for name, scorer in self._scorers.items():
            for prefix in ("", "/v1"):
                path = f"{prefix}/score/{name}"
                self._routes[path] = ("POST", self._score_with(scorer, is_batch=False))
                self._routes[f"{path}/batch"] = ("POST", self._score_with(scorer, is_batch=True))

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def load_models(self) -> None:
        """Load what scores are made with now, or the first who asks for one waits for seconds.

        A model that is not there or cannot be used is told to who asks for it.
        """
        for scorer in self._scorers.values():
            with suppress(CardlineError):
                scorer.current()

    async def close(self) -> None:
        """Close the logs and the connections to the store."""
        for store in (self._read, self._pusher):
            close: Any = getattr(store, "close", None)
            if close is not None:
                await close()
        self._decisions.close()
        self._audit.close()

    async def _lifespan(self, receive: _Receive, send: _Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        started = time.perf_counter()
        # A path that is no route may hold anything: it is neither counted nor logged.
        route = scope["path"] if scope["path"] in self._routes else "unknown"
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        call = Call(route, headers, receive, Client("unknown", frozenset()))
        reason: str | None = None
        try:
            status, body = 200, await self._answer(call, scope["method"])
        except Refused as refusal:
            status, body = refusal.status, _detail(refusal.detail)
            call.answer_headers += refusal.headers
        except StoreUnavailable as error:
            status, body, reason = 503, _detail(str(error)), "store unavailable"
            call.answer_headers.append((b"retry-after", b"1"))
            self._metrics.store_unavailable()
        except LogUnavailable as error:
            status, body, reason = 503, _detail(str(error)), "decision log unavailable"
            call.answer_headers.append((b"retry-after", b"1"))
        except (UnknownName, NoModel) as error:
            status, body = 404, _detail(str(error))
        except UnusableModel as error:
            status, body, reason = 503, _detail(str(error)), "model unusable"
        except CardlineError as error:
            status, body = 422, _detail(str(error))
        except Exception as error:
            # The message of an unforeseen error may hold what was asked for: only its place is
            # told.
            status, body, reason = 500, _detail("the server failed"), _place(error)
            print(f"error: {route}: {reason}", file=sys.stderr)
        seconds = time.perf_counter() - started
        line: dict[str, Any] = {
            "client": call.client.name,
            "method": scope["method"] if route != "unknown" else "unknown",
            "route": route,
            "service": call.service,
            "rows": call.rows,
            "status": status,
            "ms": round(seconds * 1000, 3),
        }
        self._audit.write(line if reason is None else line | {"reason": reason})
        length = (b"content-length", str(len(body)).encode())
        start = {"type": "http.response.start", "status": status}
        await send(start | {"headers": [*call.answer_headers, length]})
        await send({"type": "http.response.body", "body": body})
        # Nobody waits for the count of an answer; the audit log has to have it before it is given.
        self._metrics.answered(route, call.service, status, seconds)

    async def _answer(self, call: Call, method: str) -> bytes:
        client = self._gate.client(call.headers.get(b"authorization", []))
        if client is None:
            raise Refused(401, "a bearer token is required", (b"www-authenticate", b"Bearer"))
        call.client = client
        if client is ANYBODY:
            _require_local(call.headers)
        wait = self._limit.wait(client.name)
        if wait:
            retry = (b"retry-after", str(wait).encode())
            raise Refused(429, "too many requests: ask again later", retry)
        if call.route == "unknown":
            raise Refused(404, "there is no such path; /openapi.json lists what there is")
        wanted, answer = self._routes[call.route]
        if method != wanted:
            raise Refused(405, f"use {wanted}", (b"allow", wanted.encode()))
        return await answer(call)

    async def _health(self, call: Call) -> bytes:
        return to_json({"status": "alive"})

    async def _ready(self, call: Call) -> bytes:
        views = {view.name: view for name in self._plans.names for view in self._views(name)}
        stored = await self._read([(view, []) for view in views.values()], self._seconds)
        missing = [n for n, rows in zip(views, stored, strict=True) if rows.mark is None]
        if missing:
            raise StoreUnavailable(
                f"features.{missing[0]} is not in the online store: run `cardline run`"
            )
        for scorer in self._scorers.values():
            # Or the first who asks for a score waits until a model is loaded.
            with suppress(NoModel):
                await asyncio.to_thread(scorer.current)
        return to_json({"status": "ready"})

    def _views(self, service: str) -> Any:
        return self._plans.service(service).views

    async def _metrics_text(self, call: Call) -> bytes:
        self._require(call, METRICS)
        call.answer_headers[:] = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
        return self._metrics.text()

    async def _openapi(self, call: Call) -> bytes:
        models: dict[str, str] = {}
        for name, scorer in self._scorers.items():
            try:
                models[name] = (await asyncio.to_thread(scorer.current)).service
            except NoModel:
                continue
        limits = {"rows": MAX_ROWS, "score_rows": MAX_SCORE_ROWS, "push_rows": MAX_PUSH_ROWS}
        return to_json(document(models, limits, self._plans.references))

    async def _get_online_features(self, call: Call) -> bytes:
        asked = _as_object(await _body(call), "the request")
        plan = self._plan_of(asked)
        call.service = plan.label
        # Single features that no service has together are for who may read everything.
        scopes = sorted(f"features:{name}" for name in plan.services) or [ALL]
        if not any(map(call.client.may, scopes)):
            raise Refused(403, f"the token is not for {' or '.join(scopes)}")
        self._require_permission(call, plan.objects, READ)
        columns = _as_object(asked.get("entities"), "entities")
        for name, values in columns.items():
            if not isinstance(values, list):
                raise CardlineError(f"entities: {name} is not a list")
            call.rows = max(call.rows, len(values))
        if call.rows > MAX_ROWS:
            raise Refused(413, f"{call.rows:,} rows at once; at most {MAX_ROWS:,}")
        given = checked_inputs(plan, columns)
        vectors = await self._vectors(plan, given)
        keys = tuple(key for key in plan.keys if key in given)
        is_full_name = asked.get("full_feature_names") is True
        has_views = asked.get("include_feature_view_version_metadata") is True
        metadata = _metadata(plan, keys, is_full_name, has_views)
        return _as_feast_answers(metadata, [given[key] for key in keys], vectors)

    async def _push(self, call: Call) -> bytes:
        self._require(call, PUSH)
        rows = _pushed_rows(_as_object(await _body(call), "the request"))
        call.rows = len(rows)
        if call.rows > MAX_PUSH_ROWS:
            raise Refused(413, f"{call.rows:,} rows at once; at most {MAX_PUSH_ROWS:,}")
        told = parsed(rows)
        tables = [self._plans.table(view) for view in VIEWS]
        changes = [(table, found) for table in tables if (found := changes_of(table, told))]
        self._require_permission(call, tuple(table.name for table, _ in changes), WRITE)
        until = time.monotonic() + self._seconds
        changed = {
            table.name: await self._pusher(table, found, max(0.0, until - time.monotonic()))
            for table, found in changes
        }
        return to_json({"rows": len(rows), "cards_changed": changed["card_recent_features"]})

    def _plan_of(self, asked: dict[str, Any]) -> Plan:
        service, features = asked.get("feature_service"), asked.get("features")
        if service:
            if not isinstance(service, str):
                raise CardlineError("feature_service is not a name")
            return self._plans.service(service)
        if not features:
            raise CardlineError("the request names neither a feature_service nor features")
        if not isinstance(features, list) or set(map(type, features)) != {str}:
            raise CardlineError("features is not a list of view:feature")
        return self._plans.features(features)

    def _score_with(self, scorer: Scorer, *, is_batch: bool) -> Callable[[Call], Awaitable[bytes]]:
        async def answer(call: Call) -> bytes:
            call.service = scorer.name
            self._require(call, f"score:{scorer.name}")
            body = await _raw_body(call)
            known = _score_call(call, scorer.name, body)
            mark = None
            if known.idempotency_key is not None:
                mark = (known.client, known.model, known.idempotency_key)
                if mark in self._under_way:
                    raise _under_way()
                self._under_way.add(mark)
            try:
                decisions = await self._decide(call, scorer, known, _parsed(body), is_batch)
            except KeyReused:
                raise Refused(
                    422, "the Idempotency-Key was used for a request with another body"
                ) from None
            except KeyTaken:
                raise _under_way() from None
            finally:
                if mark is not None:
                    self._under_way.discard(mark)
            call.rows = len(decisions)
            answer = {"decisions": decisions} if is_batch else decisions[0]
            return to_json(answer, inf_nan_mode="strings")

        return answer

    async def _decide(
        self, call: Call, scorer: Scorer, known: ScoreCall, body: Any, is_batch: bool
    ) -> list[dict[str, Any]]:
        asked = _as_object(body, "the request")
        rows = asked.get("rows") if is_batch else [asked]
        if not isinstance(rows, list) or not rows or (is_batch and len(asked) > 1):
            raise CardlineError('a batch is {"rows": [...]} with at least one row')
        if len(rows) > MAX_SCORE_ROWS:
            raise Refused(413, f"{len(rows):,} rows at once; at most {MAX_SCORE_ROWS:,}")
        earlier = self._decisions.earlier(known)
        if earlier is not None:
            call.answer_headers.append((b"idempotent-replayed", b"true"))
            return earlier
        model = await asyncio.to_thread(scorer.current) if scorer.is_stale else scorer.current()
        plan = self._plans.service(model.service)
        self._require_permission(call, plan.objects, READ)
        references, given = _score_rows(plan, rows)
        vectors = await self._vectors(plan, given)
        if len(rows) <= _ROWS_IN_THE_LOOP:
            decisions = model.score(given, vectors, references)
        else:
            decisions = await asyncio.to_thread(model.score, given, vectors, references)
        self._decisions.append(known, decisions)
        return decisions

    async def _vectors(self, plan: Plan, given: dict[str, list[Any]]) -> Vectors:
        vectors = await read_vectors(plan, given, self._read, self._seconds)
        asked = len(plan.columns) * len(next(iter(given.values())))
        self._metrics.read(plan.label, asked, vectors.missing, vectors.known_through)
        return vectors

    def _require(self, call: Call, scope: str) -> None:
        if not call.client.may(scope):
            raise Refused(403, f"the token is not for {scope}")

    def _require_permission(self, call: Call, names: tuple[str, ...], action: str) -> None:
        if not self._permissions.allow(call.client, names, action):
            raise Refused(403, f"Feast's permissions refuse {action} on {', '.join(names)}")


def _require_local(headers: dict[bytes, list[bytes]]) -> None:
    """Without tokens, refuse what a web page could have sent by a name or page of its own."""
    hosts = [host.decode("latin-1") for host in headers.get(b"host", [])]
    origins = [origin.decode("latin-1") for origin in headers.get(b"origin", [])]
    names = hosts + [origin.partition("://")[2] for origin in origins]
    if not hosts or not all(is_loopback(_without_port(name)) for name in names):
        raise Refused(400, "without a token only this machine's own names are answered")


def _without_port(host: str) -> str:
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


async def _body(call: Call) -> Any:
    return _parsed(await _raw_body(call))


async def _raw_body(call: Call) -> bytes:
    """The body, bounded in size and time; JSON by its declared type.

    Where the type is not JSON a browser would not have asked before sending it from another page.
    """
    kinds = call.headers.get(b"content-type", [])
    if len(kinds) != 1 or kinds[0].partition(b";")[0].strip().lower() != b"application/json":
        raise Refused(415, "the body must be JSON: send Content-Type: application/json")
    declared = call.headers.get(b"content-length", [b"0"])[0]
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await call.receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the client went away")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None


def _under_way() -> Refused:
    return Refused(409, "this call is being answered at the moment", (b"retry-after", b"1"))


def _too_large() -> Refused:
    return Refused(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes")


def _parsed(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        # Where it goes wrong, not what stands there.
        at = re.search(r"line \d+ column \d+", str(error))
        where = f" ({at[0]})" if at else ""
        raise Refused(422, f"the body is not JSON{where}") from None


def _as_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CardlineError(f"{what} is not a JSON object")
    return value


def _pushed_rows(asked: dict[str, Any]) -> list[Any]:
    """The rows of a push, which may come as Feast's own: columns for a source, `to` online."""
    if "df" not in asked:
        rows = asked.get("rows")
        if not isinstance(rows, list) or not rows or len(asked) > 1:
            raise CardlineError('a push is {"rows": [...]} with at least one row')
        return rows
    if asked.get("push_source_name") != SOURCE or asked.get("to", "online") != "online":
        raise CardlineError(f'"df" is pushed with "push_source_name": "{SOURCE}" to "online"')
    columns = _as_object(asked["df"], "df")
    lists = [values for values in columns.values() if isinstance(values, list)]
    if len(lists) < len(columns) or len({len(values) for values in lists}) != 1 or not lists[0]:
        raise CardlineError("df is not columns of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _score_call(call: Call, model: str, body: bytes) -> ScoreCall:
    keys = [key.decode("latin-1") for key in call.headers.get(b"idempotency-key", [])]
    if len(keys) > 1 or (keys and not _IDEMPOTENCY_KEY.fullmatch(keys[0])):
        raise CardlineError("Idempotency-Key must be 1 to 128 visible ASCII characters")
    # Whatever a caller makes keys of, the log keeps none of it.
    key = hashlib.sha256(keys[0].encode()).hexdigest() if keys else None
    digest = hashlib.sha256(call.route.removeprefix("/v1").encode() + b"\0" + body).hexdigest()
    return ScoreCall(call.client.name, model, key, digest)


def _score_rows(plan: Plan, rows: list[Any]) -> tuple[list[str | None], dict[str, list[Any]]]:
    """References and input columns of `rows`. A key that a row leaves out finds nothing."""
    references: list[str | None] = []
    for row in rows:
        given = _as_object(row, "a row")
        reference = given.get("reference")
        if reference is not None and not isinstance(reference, str):
            raise CardlineError("reference is not a string")
        if reference is not None and len(reference) > _MAX_REFERENCE:
            raise CardlineError(f"reference is longer than {_MAX_REFERENCE} characters")
        references.append(reference)
        strangers = given.keys() - {"reference", *plan.keys, *plan.request}
        if strangers or not any(key in given for key in plan.keys):
            named = f"does not take {', '.join(sorted(strangers))}; it " if strangers else ""
            raise CardlineError(
                f"{plan.label} {named}takes {', '.join([*plan.keys, *plan.request])}; "
                "at least one key is needed"
            )
    require_tokens("reference", references)
    require_tokens("a row", [value for row in rows for value in row.values() if type(value) is str])
    columns = {key: [row.get(key, "") if key in row else "" for row in rows] for key in plan.keys}
    columns |= {name: [row.get(name) for row in rows] for name in plan.request}
    return references, checked_inputs(plan, columns)


@lru_cache(maxsize=1_024)
def _metadata(plan: Plan, keys: tuple[str, ...], is_full_name: bool, has_views: bool) -> bytes:
    names = [f"{view}__{name}" if is_full_name else name for view, name in plan.columns]
    metadata: dict[str, Any] = {"feature_names": [*keys, *names]}
    if has_views:
        metadata["feature_view_metadata"] = [{"name": view.name} for view in plan.views]
    return to_json(metadata)


def _as_feast_answers(metadata: bytes, keys: list[list[Any]], vectors: Vectors) -> bytes:
    """As JSON. States and times are those of a view: they are written once for all its columns."""
    size = len(vectors.tables[0].statuses)
    of_keys = _states_of_keys(size)
    states = [_states(table.statuses, table.event_times) for table in vectors.tables]
    results = [to_json(values) + of_keys for values in keys]
    results += [
        to_json(vectors.tables[at].values[column], inf_nan_mode="strings") + states[at]
        for at, column in vectors.plan.column_places
    ]
    columns = b'},{"values":'.join(results)
    return b'{"metadata":%b,"results":[{"values":%b}]}' % (metadata, columns)


@lru_cache(maxsize=64)
def _states_of_keys(size: int) -> bytes:
    return _states([PRESENT] * size, [NO_TIME] * size)


def _states(statuses: Sequence[str], event_times: Sequence[str]) -> bytes:
    told = (to_json(statuses), to_json(event_times))
    return b',"statuses":%b,"event_timestamps":%b' % told


def _detail(text: str) -> bytes:
    return to_json({"detail": text})


def _place(error: Exception) -> str:
    """The kind of an error and the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    return type(error).__name__ + where
