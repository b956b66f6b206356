"""The online feature server: Feast's own app, for reading, on this machine unless told otherwise.

Feast's app also pushes, writes and materialises for whoever can reach it; those routes are left out
here. On loopback without a token only loopback host names are answered, so that a web page cannot
reach it by pointing its own name at 127.0.0.1.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pipelines.errors import CardlineError
from pipelines.features.registry import feature_store
from pipelines.features.retrieval import (
    complete_columns,
    require_anything_published,
    require_features,
    service_names,
)
from pipelines.network import is_loopback, require_free_port
from pipelines.settings import get_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

ROUTES = frozenset({"/get-online-features", "/health", "/docs", "/openapi.json"})
LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]
REGISTRY_REFRESH_SECONDS = 60

_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class RequireBearer:
    """Answers 401 to every request that does not carry the token; compares in constant time."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "http" and not self._is_allowed(scope):
            from starlette.responses import JSONResponse

            refusal = JSONResponse(
                {"detail": "a bearer token is required"},
                status_code=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Any) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


def create_app() -> "FastAPI":
    """Feast's app for this home with the reading routes and, if a token is set, only for it.

    `POST /get-online-features` takes `{"feature_service": …, "entities": {column: [values]}}`.
    """
    from feast.errors import FeatureServiceNotFoundException
    from feast.feature_server import get_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = get_app(_serving_store(), REGISTRY_REFRESH_SECONDS)
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "path", None) in ROUTES
    ]
    app.add_exception_handler(CardlineError, _answer_bad_request)
    app.add_exception_handler(FeatureServiceNotFoundException, _answer_not_found)
    token = get_settings().serve_token
    if token is None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)
    else:
        app.add_middleware(RequireBearer, token=token.get_secret_value())
    return app


def _serving_store() -> Any:
    """Feast's store, with keys and request values that a client left out counting as null.

    Feast alone fails on them, where `retrieval.online` gives nulls.
    """
    from feast import FeatureService, FeatureStore

    class ServingStore(FeatureStore):
        def get_online_features(self, features: Any, entity_rows: Any, **options: Any) -> Any:
            return super().get_online_features(
                features, _completed(features, entity_rows), **options
            )

        async def get_online_features_async(
            self, features: Any, entity_rows: Any, **options: Any
        ) -> Any:
            return await super().get_online_features_async(
                features, _completed(features, entity_rows), **options
            )

    def _completed(features: Any, columns: Any) -> Any:
        if isinstance(features, FeatureService):
            return complete_columns(features.name, columns)
        require_features(features)
        return columns

    return ServingStore(config=feature_store().config)


async def _answer_not_found(request: Any, error: Exception) -> Any:
    from starlette.responses import JSONResponse

    there_are = f"there are {', '.join(service_names())}"
    return JSONResponse({"detail": f"no such feature service; {there_are}"}, status_code=404)


async def _answer_bad_request(request: Any, error: Exception) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse({"detail": str(error)}, status_code=422)


def serve(host: str = "127.0.0.1", port: int = 6566) -> None:
    """Serve until stopped. Raises `CardlineError` for a host that is not allowed."""
    require_safe_binding(host)
    require_free_port(host, port)
    require_anything_published()
    import uvicorn

    uvicorn.run(create_app(), host=host, port=port, log_level="info", access_log=False)


def require_safe_binding(host: str) -> None:
    """Raise `CardlineError` where other machines could connect and no token is set."""
    token = get_settings().serve_token
    if token is not None and not token.get_secret_value():
        raise CardlineError("CARDLINE_SERVE_TOKEN is empty: set a token, or unset it for loopback")
    if token is None and not is_loopback(host):
        raise CardlineError(
            f"{host} can be reached from other machines: set CARDLINE_SERVE_TOKEN, then clients "
            "send it as a bearer token; or serve on 127.0.0.1"
        )
