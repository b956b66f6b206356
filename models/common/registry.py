"""The model registry: a folder per version, written whole or not at all, and a log of states.

`<root>/<name>/<version>/` holds `model.skops`, `manifest.json`, `metrics.json`, the model card
(`model_card.md`, `model_card.json`), `reasons.json`, `validation_report.html` and the tables a
model brings. A version is named after what went into it, so the same data and settings register
nothing new. States live beside the versions in `states.json`, an append-only log: the artefacts of
a version never change after they were written: the manifest has the fingerprint of each file, and
the log that of the manifest.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
TOLERANCE = 0.005
"""By how much a champion's successor may measure less."""


@dataclass(frozen=True)
class TrainedModel:
    """What a training hands to the registry.

    `estimator` is a scikit-learn style model, `parameters` and `seed` reproduce it from the data
    set with `dataset_sha256`, `context` is what a scorer needs to know beside it, `gates` maps a
    gate to "pass", "warn: why" or "fail: why", and `tables` are further text files by name.
    `state` is the first one: a CHALLENGER scores nothing until it is promoted. `dataset_file` is
    the pinned data set, relative to the registry's root, from which it can be trained again.
    `measure` is the out-of-time metric by which a champion and its successor are compared, and
    `compared_with` the champion's version with which a gate has done so on the same rows.
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
    measure: str = "auc"
    compared_with: str | None = None


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
    """One line of the log of states; that of a registration has the manifest's fingerprint."""

    version: str
    state: str
    at: str
    by: str
    reason: str
    manifest_sha256: str | None = None


class Registry:
    """Models under one folder. Nothing is cached: several processes may look at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def register(
        self, trained: TrainedModel, *, trainer: str, git_sha: str | None = None
    ) -> ModelVersion:
        """Write a new version, or return the version that these inputs already gave.

        The folder is written aside and renamed: a killed run leaves no half version. One whose
        files were damaged meanwhile is set aside and written anew, as a candidate again.
        """
        identity = self._identity(trained)
        name = f"{trained.window['end'][:10].replace('-', '')}-{identity[:10]}"
        folder = self.root / trained.name / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        is_known = name in self.states(trained.name)
        is_damaged = is_known and not self._is_whole(trained.name, name)
        if is_damaged and folder.exists():
            aside = tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent)
            folder.rename(Path(aside) / name)
        if not folder.exists():
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
                "measure": trained.measure,
                "compared_with": trained.compared_with,
                "libraries": library_versions(),
                "code_sha256": code_sha256(),
                "git_sha": git_sha,
                "trainer": trainer,
                "trained_at": _now(),
            }
            self._write(folder, trained, manifest)
        with self._locked(trained.name):
            if is_damaged or name not in self.states(trained.name):
                reason = "trained again: its files were damaged" if is_damaged else "trained"
                sha256 = _file_sha256(folder / "manifest.json")
                line = Transition(name, trained.state, _now(), trainer, reason, sha256)
                self._append(trained.name, [line])
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
            manifest["files"] = {f.name: _file_sha256(f) for f in sorted(aside.iterdir())}
            (aside / "manifest.json").write_text(_json(manifest))
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

    def states(self, name: str) -> dict[str, str]:
        """The state of each version of a model, oldest registration first."""
        return {t.version: t.state for t in self.transitions(name)}

    def list_versions(self, name: str | None = None) -> list[ModelVersion]:
        """Versions of one model or of all, oldest registration first, without those whose files
        are missing."""
        return [
            self.get(model, version)
            for model in ([name] if name else self.names())
            for version in self.states(model)
            if (self.root / model / version / "manifest.json").exists()
        ]

    def get(self, name: str, version: str) -> ModelVersion:
        """One version; unknown names are errors that list what there is."""
        folder = self.root / name / version
        states = self.states(name)
        if version not in states:
            known = ", ".join(states) or "none"
            raise ModelError(f"no version '{version}' of model '{name}'; registered: {known}")
        if not (folder / "manifest.json").exists():
            raise ModelError(
                f"{name} {version}: its files are not in {folder}; restore them from a backup, or "
                "retire the version"
            )
        manifest, metrics = (_read(folder / f"{what}.json") for what in ("manifest", "metrics"))
        return ModelVersion(name, version, states[version], folder, manifest, metrics)

    def current(self, name: str) -> ModelVersion | None:
        """The champion; without one the newest candidate, to be recognised by its state."""
        states = self.states(name)
        for state in ("CHAMPION", "CANDIDATE"):
            found = [version for version, its in states.items() if its == state]
            if found:
                return self.get(name, found[-1])
        return None

    def load(self, name: str, version: str) -> Any:
        """The estimator of a version. Its bytes must be those that were registered."""
        import skops.io

        path = self.checked(name, version).path / "model.skops"
        types = skops.io.get_untrusted_types(file=path)
        foreign = [t for t in types if not t.startswith(TRUSTED_PREFIXES)]
        if foreign:
            raise ModelError(f"{name} {version}: model.skops holds foreign types {foreign}")
        return skops.io.load(path, trusted=types)

    def checked(self, name: str, version: str) -> ModelVersion:
        """One version. Raises `ModelError` where its files are others than were registered."""
        found = self.get(name, version)
        registered = [t for t in self.transitions(name) if t.version == version]
        manifests = [t.manifest_sha256 for t in registered if t.manifest_sha256]
        files = found.manifest.get("files") or {"model.skops": found.manifest["model_sha256"]}
        expected = {"manifest.json": manifests[-1], **files} if manifests else files
        for file, sha256 in expected.items():
            path = found.path / file
            if not path.exists() or _file_sha256(path) != sha256:
                raise ModelError(
                    f"{name} {version}: {file} is not what was registered; restore it from a "
                    "backup, or train again"
                )
        return found

    def _is_whole(self, name: str, version: str) -> bool:
        try:
            self.checked(name, version)
        except ModelError:
            return False
        return True

    def promote(self, name: str, version: str, approver: str, reason: str) -> ModelVersion:
        """Make a version the champion; the champion before it becomes the challenger.

        Refused where the approver trained it, where a gate failed, where it measures less than the
        champion does, and without a reason. There is no exception for the first champion: until
        somebody else approves one, scoring uses the newest candidate and says so.
        """
        approver, reason = _person(approver), reason.strip()
        if not approver or not reason:
            raise ModelError("a promotion needs an approver and a reason")
        with self._locked(name):
            found = self.checked(name, version)
            if approver.casefold() == _person(str(found.manifest["trainer"])).casefold():
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
            if found.state == "RETIRED":
                raise ModelError(f"{name} {version} was retired: train another")
            if found.state == "CHAMPION":
                raise ModelError(f"{name} {version} is the champion already")
            champions = [v for v, state in self.states(name).items() if state == "CHAMPION"]
            for champion in champions:
                self._require_no_worse(found, champion)
            at = _now()
            steps = [
                Transition(champion, "CHALLENGER", at, approver, f"replaced by {version}")
                for champion in champions
            ]
            steps += [
                Transition(version, state, at, approver, reason)
                for state in ("VALIDATED", "APPROVED", "CHAMPION")
            ]
            self._append(name, steps)
        return self.get(name, version)

    def _require_no_worse(self, found: ModelVersion, champion: str) -> None:
        """A gate has compared the two on the same rows; if not, their own figures are."""
        if found.manifest.get("compared_with") == champion:
            return
        measure = found.manifest.get("measure", "auc")
        ours, theirs = (
            version.metrics.get("out_of_time", {}).get(measure)
            for version in (found, self.get(found.name, champion))
        )
        if ours is not None and theirs is not None and ours < theirs - TOLERANCE:
            raise ModelError(
                f"{found.name} {found.version} measures {measure} {ours:.4f} out of time, the "
                f"champion {champion} {theirs:.4f}: train another, or retire the champion first"
            )

    def retire(self, name: str, version: str, approver: str, reason: str) -> ModelVersion | None:
        """Take a version out of use; it stays readable. Returns what is in force then."""
        approver, reason = _person(approver), reason.strip()
        if not approver or not reason:
            raise ModelError("a retirement needs a name and a reason")
        with self._locked(name):
            states = self.states(name)
            if version not in states:
                self.get(name, version)
            if states[version] == "RETIRED":
                raise ModelError(f"{name} {version} is retired already")
            self._append(name, [Transition(version, "RETIRED", _now(), approver, reason)])
        return self.current(name)

    def transitions(self, name: str) -> list[Transition]:
        """The log of states of a model, oldest first."""
        path = self.root / name / "states.json"
        if not path.exists():
            return []
        return [Transition(**line) for line in json.loads(path.read_text())]

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One writer of a model's log at a time; a killed one leaves no lock."""
        folder = self.root / name
        if not folder.is_dir():
            raise ModelError(f"there is no model '{name}'")
        with (folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

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


def _person(name: str) -> str:
    """A name that looks the same is the same. Raises `ModelError` for what cannot be seen."""
    name = unicodedata.normalize("NFKC", name).strip()
    if any(unicodedata.category(sign).startswith("C") for sign in name):
        raise ModelError(f"the name {name!r} holds characters that cannot be seen")
    return name


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}): restore it from a backup, or train again"
        ) from error


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
