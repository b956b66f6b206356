"""Tokens that stand in for card and social security numbers."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import polars as pl

from pipelines.settings import Settings, get_settings

KEY_FILE = "token.key"
TOKEN_BYTES = 12


class Tokeniser:
    """Keyed HMAC-SHA256: the same value gives the same token under one key, and no way back."""

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ValueError("a tokeniser needs a key")
        self._key = key

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> "Tokeniser":
        """With the key of the environment, else with the one kept in the home (made once)."""
        settings = settings or get_settings()
        if settings.token_key is not None and settings.token_key.get_secret_value():
            return cls(settings.token_key.get_secret_value().encode())
        return cls(_kept_key(settings.secrets_dir / KEY_FILE))

    def token(self, value: str, prefix: str) -> str:
        """`<prefix>_` and 24 letters: letters alone, so no token reads as a card number."""
        digest = hmac.digest(self._key, f"{prefix}\x1f{value}".encode(), hashlib.sha256)
        letters = digest[:TOKEN_BYTES].hex().translate(_LETTERS)
        return f"{prefix}_{letters}"

    def tokens(self, values: pl.Series, prefix: str) -> pl.Series:
        """The tokens of a text column; null stays null."""
        distinct = values.drop_nulls().unique().to_list()
        return values.replace_strict(
            {value: self.token(value, prefix) for value in distinct},
            default=None,
            return_dtype=pl.String(),
        )


_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def _kept_key(path: Path) -> bytes:
    """The key in `path`, made on first use; of two processes that make it, the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(aside, path)
        except FileExistsError:
            # Another process made the key in the meantime: its key is the one that counts.
            return path.read_bytes().strip()
        finally:
            aside.unlink()
    return path.read_bytes().strip()
