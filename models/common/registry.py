"""The model registry: a folder per version, written whole or not at all, and a log of states.

`<root>/<name>/<version>/` holds `model.skops`, `manifest.json`, `metrics.json`, the model card
(`model_card.md`, `model_card.json`), `reasons.json`, `validation_report.html` and the tables a
model brings. A version is named after what went into it, so the same data and settings register
nothing new. States live beside the versions in `states.json`, an append-only log: the artefacts of
a version never change after they were written.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.common.card import card_content, render_card
from models.common.errors import ModelError
from models.common.validation import render_validation

STATES = ("CANDIDATE", "VALIDATED", "APPROVED", "CHAMPION", "CHALLENGER", "RETIRED")
LIBRARIES = ("scikit-learn", "numpy", "scipy", "polars", "skops")
TRUSTED_PREFIXES = ("models.", "sklearn.", "numpy.", "builtins.")


@dataclass(frozen=True)
class TrainedModel:
    """What a training hands to the registry.

    `estimator` is a scikit-learn style model, `parameters` and `seed` reproduce it from the data
    set with `dataset_sha256`, `context` is what a scorer needs to know beside it, `gates` maps a
    gate to "pass", "warn: why" or "fail: why", and `tables` are further text files by name.
    `state` is the first one: a CHALLENGER scores nothing until it is promoted. `dataset_file` is
    the pinned data set, relative to the registry's root, from which it can be trained again.
    """

    name: str
    estimator: Any
    features: tuple[str, ...]
    dropped_features: dict[str, str]
    dataset_sha256: str
    parameters: dict[str, Any]
    seed: int
    window: dict[str, str]
    metrics: dict[str, Any]
    reasons: dict[str, Any]
    gates: dict[str, str]
    purpose: str
    target: str
    context: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: dict[str, str] = field(default_factory=dict)
    state: str = "CANDIDATE"
    dataset_file: str | None = None


@dataclass(frozen=True)
class ModelVersion:
    """One registered version: its folder, its current state, manifest and metrics."""

    name: str
    version: str
    state: str
    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Transition:
    """One line of the log of states."""

    version: str
    state: str
    at: str
    by: str
    reason: str


class Registry:
    """Models under one folder. Nothing is cached: several processes may look at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def register(
        self, trained: TrainedModel, *, trainer: str, git_sha: str | None = None
    ) -> ModelVersion:
        """Write a new version, or return the version that these inputs already gave.

        The folder is written aside and renamed: a killed run leaves no half version.
        """
        identity = self._identity(trained)
        name = f"{trained.window['end'][:10].replace('-', '')}-{identity[:10]}"
        folder = self.root / trained.name / name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            manifest = {
                "name": trained.name,
                "version": name,
                "identity_sha256": identity,
                "dataset_sha256": trained.dataset_sha256,
                "dataset_file": trained.dataset_file,
                "features": list(trained.features),
                "dropped_features": trained.dropped_features,
                "parameters": trained.parameters,
                "seed": trained.seed,
                "window": trained.window,
                "target": trained.target,
                "context": trained.context,
                "purpose": trained.purpose,
                "notes": list(trained.notes),
                "gates": trained.gates,
                "libraries": library_versions(),
                "code_sha256": code_sha256(),
                "git_sha": git_sha,
                "trainer": trainer,
                "trained_at": _now(),
            }
            self._write(folder, trained, manifest)
        if not any(t.version == name for t in self.transitions(trained.name)):
            self._append(
                trained.name, [Transition(name, trained.state, _now(), trainer, "trained")]
            )
        return self.get(trained.name, name)

    @staticmethod
    def _identity(trained: TrainedModel) -> str:
        core = {
            "name": trained.name,
            "dataset": trained.dataset_sha256,
            "features": list(trained.features),
            "parameters": trained.parameters,
            "seed": trained.seed,
            "window": trained.window,
            "context": trained.context,
            "libraries": library_versions(),
            "code": code_sha256(),
        }
        return hashlib.sha256(_json(core).encode()).hexdigest()

    def _write(self, folder: Path, trained: TrainedModel, manifest: dict[str, Any]) -> None:
        import skops.io

        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            skops.io.dump(trained.estimator, aside / "model.skops")
            manifest["model_sha256"] = _file_sha256(aside / "model.skops")
            (aside / "manifest.json").write_text(_json(manifest))
            (aside / "metrics.json").write_text(_json(trained.metrics))
            (aside / "reasons.json").write_text(_json(trained.reasons))
            told = (manifest, trained.metrics, trained.reasons)
            (aside / "model_card.md").write_text(render_card(*told, trained.tables))
            (aside / "model_card.json").write_text(_json(card_content(*told)))
            if "curves" in trained.metrics:
                page = render_validation(manifest, trained.metrics)
                (aside / "validation_report.html").write_text(page)
            for name, text in trained.tables.items():
                (aside / name).write_text(text)
            aside.chmod(0o755)
            aside.rename(folder)
        except OSError:
            # Another run with the same inputs may have renamed first: its version is the same.
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def names(self) -> list[str]:
        """Model names that have a version."""
        if not self.root.exists():
            return []
        return sorted(p.name for p in self.root.iterdir() if (p / "states.json").exists())

    def list_versions(self, name: str | None = None) -> list[ModelVersion]:
        """Versions of one model or of all, oldest registration first."""
        versions: list[ModelVersion] = []
        for model in [name] if name else self.names():
            registered = dict.fromkeys(t.version for t in self.transitions(model))
            versions.extend(self.get(model, v) for v in registered)
        return versions

    def get(self, name: str, version: str) -> ModelVersion:
        """One version; unknown names are errors that list what there is."""
        folder = self.root / name / version
        states = {t.version: t.state for t in self.transitions(name)}
        if not (folder / "manifest.json").exists() or version not in states:
            known = ", ".join(states) or "none"
            raise ModelError(f"no version '{version}' of model '{name}'; registered: {known}")
        return ModelVersion(
            name,
            version,
            states[version],
            folder,
            json.loads((folder / "manifest.json").read_text()),
            json.loads((folder / "metrics.json").read_text()),
        )

    def current(self, name: str) -> ModelVersion | None:
        """The champion; without one the newest candidate, to be recognised by its state."""
        versions = self.list_versions(name)
        for state in ("CHAMPION", "CANDIDATE"):
            found = [v for v in versions if v.state == state]
            if found:
                return found[-1]
        return None

    def load(self, name: str, version: str) -> Any:
        """The estimator of a version. Its bytes must be those that were registered."""
        import skops.io

        path = self.checked_file(name, version)
        types = skops.io.get_untrusted_types(file=path)
        foreign = [t for t in types if not t.startswith(TRUSTED_PREFIXES)]
        if foreign:
            raise ModelError(f"{name} {version}: model.skops holds foreign types {foreign}")
        return skops.io.load(path, trusted=types)

    def checked_file(self, name: str, version: str) -> Path:
        """The estimator's file of a version. Raises `ModelError` where its bytes are others than
        were registered."""
        found = self.get(name, version)
        path = found.path / "model.skops"
        if not path.exists() or _file_sha256(path) != found.manifest["model_sha256"]:
            raise ModelError(
                f"{name} {version}: model.skops is not what was registered; restore it from a "
                "backup, or retire the version and train another"
            )
        return path

    def promote(self, name: str, version: str, approver: str, reason: str) -> ModelVersion:
        """Make a version the champion; the champion before it becomes the challenger.

        Refused where the approver trained it, where a gate failed, and without a reason. There is
        no exception for the first champion: until somebody else approves one, scoring uses the
        newest candidate and says so.
        """
        found = self.get(name, version)
        approver, reason = approver.strip(), reason.strip()
        if not approver or not reason:
            raise ModelError("a promotion needs an approver and a reason")
        if approver.casefold() == str(found.manifest["trainer"]).strip().casefold():
            raise ModelError(
                f"{name} {version} was trained by {approver}: somebody else must approve it"
            )
        failed = [
            f"{gate} ({told.removeprefix('fail: ')})"
            for gate, told in sorted(found.manifest["gates"].items())
            if told.startswith("fail")
        ]
        if failed:
            raise ModelError(f"{name} {version} fails its gates: {'; '.join(failed)}")
        if found.state == "CHAMPION":
            return found
        self.checked_file(name, version)
        at = _now()
        steps = [
            Transition(v.version, "CHALLENGER", at, approver, f"replaced by {version}")
            for v in self.list_versions(name)
            if v.state == "CHAMPION"
        ]
        steps += [
            Transition(version, state, at, approver, reason)
            for state in ("VALIDATED", "APPROVED", "CHAMPION")
        ]
        self._append(name, steps)
        return self.get(name, version)

    def retire(self, name: str, version: str, approver: str, reason: str) -> ModelVersion:
        """Take a version out of use; it stays readable."""
        self.get(name, version)
        if not approver.strip() or not reason.strip():
            raise ModelError("a retirement needs a name and a reason")
        self._append(name, [Transition(version, "RETIRED", _now(), approver, reason)])
        return self.get(name, version)

    def transitions(self, name: str) -> list[Transition]:
        """The log of states of a model, oldest first."""
        path = self.root / name / "states.json"
        if not path.exists():
            return []
        return [Transition(**line) for line in json.loads(path.read_text())]

    def _append(self, name: str, steps: list[Transition]) -> None:
        path = self.root / name / "states.json"
        lines = [asdict(t) for t in [*self.transitions(name), *steps]]
        handle, aside = tempfile.mkstemp(prefix=".states-", dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(_json(lines))
        Path(aside).replace(path)


@cache
def code_sha256() -> str:
    """Fingerprint of the code of this package: another learner is another model."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries a model depends on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def _json(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
