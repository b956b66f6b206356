"""`cardline serve`: the application of this home, bound to an address that is safe for it."""

import gc
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import CardlineError
from pipelines.features.retrieval import require_anything_published
from pipelines.network import is_loopback, require_free_port
from pipelines.settings import get_settings

if TYPE_CHECKING:
    from pipelines.serving.app import App

_GRACEFUL_SECONDS = 10
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def create_app() -> "App":
    """The application of this home, on its online store."""
    from pipelines.features.registry import feature_store
    from pipelines.serving.app import App

    settings = get_settings()
    store = importlib.import_module(f"pipelines.features.{settings.online_store}_store")
    config = feature_store().config
    return App(settings, store.reader(config), store.pusher(config))


def serve(
    host: str = "127.0.0.1",
    port: int = 6566,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve until stopped; requests under way are finished first.

    With `certificate` and `key` (PEM) over TLS. Raises `CardlineError` for a host that is not
    allowed.
    """
    require_safe_binding(host)
    require_free_port(host, port)
    require_anything_published()
    if (certificate is None) != (key is None):
        raise CardlineError("TLS needs both --tls-certificate and --tls-key")
    if missing := [path for path in (certificate, key) if path and not path.is_file()]:
        raise CardlineError(f"{missing[0]} is no file")
    # A row is too small to share: threads of the learners' libraries would only wait for each
    # other. They read this when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import uvicorn

    from pipelines.serving.protocol import WholeAnswers

    app = create_app()
    app.load_models()
    # What was made until here stays: never looked at again, it no longer makes answers wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 50, 100)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="info",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=WholeAnswers,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def require_safe_binding(host: str) -> None:
    """Raise `CardlineError` where other machines could connect and no token is needed."""
    from pipelines.serving.tokens import Gate

    settings = get_settings()
    token = settings.serve_token
    if token is not None and not token.get_secret_value():
        raise CardlineError("CARDLINE_SERVE_TOKEN is empty: set a token, or unset it for loopback")
    if Gate(settings).is_open and not is_loopback(host):
        raise CardlineError(
            f"{host} can be reached from other machines: make a token with `cardline tokens "
            "create` or set CARDLINE_SERVE_TOKEN, then clients send it as a bearer token; or serve "
            "on 127.0.0.1"
        )
