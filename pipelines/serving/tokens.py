"""Who may ask the server for what: bearer tokens, of which only hashes are kept.

A token is 256 random bits, so one SHA-256 is enough; it is shown once, when it is made. The file is
read anew whenever it changes: a token that is revoked is refused from the next request on.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.errors import CardlineError
from pipelines.features.retrieval import service_names
from pipelines.files import written_aside
from pipelines.settings import Settings, get_settings
from pipelines.training import FRAUD, UNDERWRITING

TOKENS_FILE = "serve_tokens.json"
ALL = "*"
METRICS = "metrics"
PUSH = "push"
MODELS = (UNDERWRITING, FRAUD)
SHARED_CLIENT = "CARDLINE_SERVE_TOKEN"
MOST_DAYS = 3_650
_SCHEME = b"bearer "


@dataclass(frozen=True)
class Token:
    """What is kept of a token: its owner, its hash, what it opens and until when (ISO, UTC)."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether it opens anything at `at` (UTC)."""
        if self.revoked_at is not None:
            return False
        return self.expires_at is None or at.isoformat() < self.expires_at


@dataclass(frozen=True)
class Client:
    """Who asks, and what that opens."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether `scope` (`features:<service>`, `score:<model>`, `push`, `metrics`) is open."""
        return ALL in self.scopes or scope in self.scopes


ANYBODY = Client("loopback", frozenset({ALL}))
"""Who asks where no token was ever made or set."""


def known_scopes() -> list[str]:
    """Every scope that a token can have."""
    features = [f"features:{name}" for name in service_names()]
    return [ALL, *features, *(f"score:{name}" for name in MODELS), PUSH, METRICS]


def create_token(name: str, scopes: Iterable[str], days: int | None = None) -> str:
    """Make a token for `name` and return its text, which is kept nowhere.

    Without `days` it does not expire. Raises `CardlineError` for a name that is taken and a scope
    that does not exist.
    """
    settings = get_settings()
    wanted = tuple(dict.fromkeys(scopes))
    if not name.strip() or not name.isprintable() or not wanted:
        raise CardlineError("a token needs a name of one line and at least one --scope")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise CardlineError(f"a token is valid for 1 to {MOST_DAYS:,} days, or for good")
    if unknown := [scope for scope in wanted if scope not in known_scopes()]:
        raise CardlineError(
            f"there is no scope {unknown[0]}; there are {', '.join(known_scopes())}"
        )
    kept = list_tokens(settings)
    if any(token.name == name and token.revoked_at is None for token in kept):
        raise CardlineError(f"{name} has a token: revoke it first, or choose another name")
    text = "cardline_" + secrets.token_urlsafe(32)
    now = _now()
    expires = None if days is None else (now + timedelta(days=days)).isoformat()
    _write(settings, [*kept, Token(name, _sha256(text.encode()), wanted, now.isoformat(), expires)])
    return text


def revoke_token(name: str) -> None:
    """Close a token for good. Raises `CardlineError` where `name` has none."""
    settings = get_settings()
    kept = list_tokens(settings)
    if not any(token.name == name and token.revoked_at is None for token in kept):
        raise CardlineError(f"{name} has no token")
    now = _now().isoformat()
    _write(
        settings,
        [
            replace(token, revoked_at=now)
            if token.name == name and token.revoked_at is None
            else token
            for token in kept
        ],
    )


def list_tokens(settings: Settings) -> list[Token]:
    """Every token ever made in this home, oldest first."""
    path = _path(settings)
    if not path.exists():
        return []
    return [
        Token(**(raw | {"scopes": tuple(raw["scopes"])})) for raw in json.loads(path.read_text())
    ]


class Gate:
    """Tells who a request comes from by its `Authorization`."""

    def __init__(self, settings: Settings) -> None:
        self._path = _path(settings)
        self._settings = settings
        self._seen: object = None
        self._tokens: list[Token] = []
        shared = settings.serve_token
        self._shared = None if shared is None else _sha256(shared.get_secret_value().encode())

    @property
    def is_open(self) -> bool:
        """Whether no token was ever made or set: then everybody is let in, on loopback only."""
        self._refresh()
        return self._shared is None and not self._tokens

    def client(self, authorization: list[bytes]) -> Client | None:
        """The client of a request with these `Authorization` headers; None is nobody.

        Every token is compared, each in constant time, so that nothing is learnt from how long it
        takes.
        """
        if self.is_open:
            return ANYBODY
        if len(authorization) != 1 or authorization[0][: len(_SCHEME)].lower() != _SCHEME:
            return None
        given = _sha256(authorization[0][len(_SCHEME) :])
        found: Client | None = None
        now = _now()
        for token in self._tokens:
            if hmac.compare_digest(given, token.sha256) and token.is_valid(now):
                found = Client(token.name, frozenset(token.scopes))
        if self._shared is not None and hmac.compare_digest(given, self._shared):
            found = Client(SHARED_CLIENT, frozenset({ALL}))
        return found

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            seen: object = (status.st_mtime_ns, status.st_ino, status.st_size)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._tokens = list_tokens(self._settings)
            self._seen = seen


def _path(settings: Settings) -> Path:
    return settings.secrets_dir / TOKENS_FILE


def _write(settings: Settings, tokens: list[Token]) -> None:
    with written_aside(_path(settings)) as aside:
        aside.touch(mode=0o600)
        aside.write_text(json.dumps([asdict(token) for token in tokens], indent=2) + "\n")


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
