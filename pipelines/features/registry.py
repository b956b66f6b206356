"""Feast's objects and registry for this home, in process and without a change of folder."""

import hashlib
import importlib
import os
import string
import sys
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipelines.errors import CardlineError
from pipelines.settings import PROJECT_DIR, Settings, get_settings

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView, RepoConfig

FEATURE_REPO = PROJECT_DIR / "feature_repo"

_lock = threading.RLock()


@dataclass(frozen=True)
class View:
    """One feature view: its key and its feature columns, by Feast type name.

    `features` maps a column to one of `INT64`, `DOUBLE`, `STRING`, `BOOL`.
    """

    name: str
    key: str
    features: dict[str, str]


@dataclass(frozen=True, eq=False)
class Definitions:
    """Everything that `feature_repo/` declares.

    `made_of` maps the keys that are made of other columns to these.
    """

    objects: tuple[Any, ...]
    views: dict[str, View]
    made_of: dict[str, tuple[str, ...]]


def apply() -> bool:
    """Bring the registry and the online tables of this home to what `feature_repo/` declares.

    Returns whether anything had to be done: a registry that was made from the same text and
    settings is left alone.
    """
    settings = get_settings()
    with _lock:
        marker = settings.feast_dir / "applied.sha256"
        wanted = _fingerprint(settings)
        if _is_applied(settings, wanted):
            return False
        settings.feast_dir.mkdir(parents=True, exist_ok=True)
        store = _new_store(settings)
        objects = list(load_definitions().objects)
        with warnings.catch_warnings(record=True):
            # "On demand feature view is experimental", of every start.
            store.apply(objects, objects_to_delete=_undeclared(store, objects), partial=False)
        aside = marker.with_suffix(".part")
        aside.write_text(wanted)
        aside.replace(marker)
        _cached_store.cache_clear()
        _has_services.cache_clear()
        return True


def feature_store() -> "FeatureStore":
    """Feast's store of this home, applied; one per process and state of the declarations."""
    apply()
    with _lock:
        return _cached_store(_fingerprint(get_settings()))


def load_config(settings: Settings) -> "RepoConfig":
    """`feature_store.yaml` with the settings filled in. Raises `CardlineError` on a bad file."""
    import yaml
    from feast.repo_config import RepoConfig

    text = (FEATURE_REPO / "feature_store.yaml").read_text()
    try:
        filled = string.Template(text).substitute(
            CARDLINE_HOME=settings.home,
            CARDLINE_ONLINE_STORE=settings.online_store,
            CARDLINE_REDIS_URL=_with_deadlines(settings.redis_url),
        )
        config = yaml.safe_load(filled)
        if settings.registry_url is not None:
            # Feast warns of every URL that leaves the driver to it.
            url = settings.registry_url.get_secret_value().replace(
                "postgresql://", "postgresql+psycopg://", 1
            )
            config["registry"] |= {"registry_type": "sql", "path": url}
        return RepoConfig(**config, repo_path=FEATURE_REPO)
    except (KeyError, ValueError, yaml.YAMLError) as error:
        raise CardlineError(f"feature_repo/feature_store.yaml: {error}") from error


def _with_deadlines(url: str) -> str:
    """Without them a server that accepts and says nothing is waited for, for good."""
    deadlines = {"socket_connect_timeout": 5, "socket_timeout": 10}
    return url + "".join(
        f",{name}={seconds}" for name, seconds in deadlines.items() if f",{name}=" not in url
    )


def load_definitions() -> Definitions:
    """The objects of `feature_repo/`, bound to this home's paths."""
    with _lock:
        settings = get_settings()
        with warnings.catch_warnings(record=True):
            # Importing Feast imports what sqlglot deprecates.
            return _load_definitions(settings.home, _source_digest())


@lru_cache(maxsize=4)
def _load_definitions(home: object, digest: str) -> Definitions:
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView
    from feast.data_source import DataSource
    from feast.permissions.permission import Permission

    kinds = (DataSource, Entity, FeatureView, OnDemandFeatureView, FeatureService, Permission)
    objects: dict[int, Any] = {}
    for module in _import_repo():
        for name in sorted(vars(module)):
            value = getattr(module, name)
            if isinstance(value, kinds):
                objects[id(value)] = value
    views = {v.name: _view(v) for v in objects.values() if isinstance(v, FeatureView)}
    made_of = {
        entity.join_key: tuple(entity.tags["made_of"].split(","))
        for entity in objects.values()
        if isinstance(entity, Entity) and "made_of" in entity.tags
    }
    return Definitions(tuple(objects.values()), views, made_of)


def _import_repo() -> list[Any]:
    """The repository's modules, script style: they import each other by bare name.

    Bare names (`entities`) are taken out of `sys.modules` again, so that another home can be loaded
    in the same process and nobody else finds them.
    """
    names = [path.stem for path in sorted(FEATURE_REPO.glob("*.py"))]
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FEATURE_REPO))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(FEATURE_REPO))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)


def _view(view: "FeatureView") -> View:
    keys = [field.name for field in view.entity_columns]
    if len(keys) != 1:
        raise CardlineError(
            f"feature view {view.name} has the keys {keys}: give the combination one string key"
        )
    kinds = {field.name: field.dtype.to_value_type().name for field in view.features}
    return View(view.name, keys[0], kinds)


def _undeclared(store: "FeatureStore", objects: list[Any]) -> list[Any]:
    """What the registry still holds and the repository no longer declares."""
    declared = {(type(item).__name__, item.name) for item in objects}
    registered = [
        *store.list_permissions(),
        *store.list_feature_services(),
        *store.list_on_demand_feature_views(),
        *store.list_feature_views(),
        *store.list_entities(),
        *store.list_data_sources(),
    ]
    return [item for item in registered if (type(item).__name__, item.name) not in declared]


def _new_store(settings: Settings) -> "FeatureStore":
    from feast import FeatureStore

    store = FeatureStore(config=load_config(settings))
    if settings.registry_url is not None:
        _connect(store)
    return store


def _connect(store: "FeatureStore") -> None:
    """Make the tables of a registry in a database, told in our words where that fails."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        _ = store.registry
    except (SQLAlchemyError, ImportError) as error:
        # The setting's name, never its value, nor a message that may repeat it: it has a password.
        raise CardlineError(
            f"the database of CARDLINE_REGISTRY_URL cannot be used now ({type(error).__name__}): "
            "start it, or set CARDLINE_REGISTRY_URL; PostgreSQL's driver comes with "
            "`pip install 'cardline[postgres]'`"
        ) from error


@lru_cache(maxsize=4)
def _cached_store(fingerprint: str) -> "FeatureStore":
    """The store of the settings that `fingerprint` was taken from."""
    return _new_store(get_settings())


def _is_applied(settings: Settings, wanted: str) -> bool:
    marker = settings.feast_dir / "applied.sha256"
    files = [marker]
    if settings.registry_url is None:
        files.append(settings.feast_dir / "registry.db")
    if settings.online_store == "sqlite":
        files.append(settings.feast_dir / "online.db")
    if not all(file.exists() for file in files) or marker.read_text() != wanted:
        return False
    return settings.registry_url is None or _has_services(wanted)


@lru_cache(maxsize=4)
def _has_services(fingerprint: str) -> bool:
    """Whether the database behind the registry still has what this home applied; asked once."""
    return bool(_cached_store(fingerprint).list_feature_services())


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([*FEATURE_REPO.glob("*.py"), FEATURE_REPO / "feature_store.yaml"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _fingerprint(settings: Settings) -> str:
    from importlib.metadata import version

    parts = [
        _source_digest(), version("feast"), os.fspath(settings.home),
        settings.online_store, settings.redis_url,
        settings.registry_url.get_secret_value() if settings.registry_url else "",
    ]  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
