"""The model registry: whole versions, stable names, states and who may promote."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import ModelError
from models.common.registry import Registry, TrainedModel
from models.underwriting.scorecard import Scorecard


def trained(**changes) -> TrainedModel:
    generator = np.random.default_rng(0)
    values = generator.random((400, 2))
    bad = (generator.random(400) < values[:, 0] * 0.6).astype(int)
    model = TrainedModel(
        name="underwriting",
        estimator=Scorecard().fit(values, bad, features=["a", "b"]),
        features=("a", "b"),
        dropped_features={"c": "constant"},
        dataset_sha256="d" * 64,
        parameters={"pdo": 20.0},
        seed=0,
        window={"start": "2024-01-01", "end": "2024-12-31 23:59:59"},
        metrics={"out_of_time": {"rows": 10, "auc": 0.7}},
        reasons={"version": 1, "features": {}},
        gates={"calibration": "pass", "ks_drop": "warn: falls"},
        purpose="To decide.",
        target="BAD",
        tables={"scorecard.csv": "feature\n"},
    )
    return replace(model, **changes)


def test_a_version_holds_its_artefacts_and_loads_to_the_same_predictions(tmp_path: Path):
    registry, model = Registry(tmp_path), trained()
    version = registry.register(model, trainer="ann", git_sha="abc")
    assert version.state == "CANDIDATE"
    assert {p.name for p in version.path.iterdir()} == {
        "model.skops", "manifest.json", "metrics.json", "model_card.md", "model_card.json",
        "reasons.json", "scorecard.csv",
    }  # fmt: skip
    manifest = json.loads((version.path / "manifest.json").read_text())
    assert manifest["trainer"] == "ann"
    assert manifest["git_sha"] == "abc"
    assert manifest["libraries"]["scikit-learn"]
    assert "0.7000" in (version.path / "model_card.md").read_text()
    values = np.random.default_rng(1).random((50, 2))
    loaded = registry.load("underwriting", version.version)
    assert np.array_equal(loaded.predict_proba(values), model.estimator.predict_proba(values))


def test_the_same_inputs_register_once_and_others_apart(tmp_path: Path):
    registry = Registry(tmp_path)
    first = registry.register(trained(), trainer="ann")
    again = registry.register(trained(), trainer="ben")
    other = registry.register(trained(seed=1), trainer="ann")
    assert again.version == first.version
    assert again.manifest["trainer"] == "ann"
    assert [v.version for v in registry.list_versions()] == [first.version, other.version]
    assert registry.names() == ["underwriting"]


def test_a_killed_registration_leaves_nothing_visible_and_the_next_one_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    registry = Registry(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("models.common.registry.render_card", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.register(trained(), trainer="ann")
    assert registry.list_versions() == []
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_append", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.register(trained(), trainer="ann")
    assert registry.register(trained(), trainer="ann").state == "CANDIDATE"


def test_promotion_needs_another_person_a_reason_and_passed_gates(tmp_path: Path):
    registry = Registry(tmp_path)
    version = registry.register(trained(), trainer="Ann").version
    for approver, reason in (("ann ", "good"), ("", "good"), ("ben", " ")):
        with pytest.raises(ModelError):
            registry.promote("underwriting", version, approver, reason)
    assert registry.get("underwriting", version).state == "CANDIDATE"
    assert registry.promote("underwriting", version, "ben", "good").state == "CHAMPION"
    failing = registry.register(
        trained(seed=2, gates={"calibration": "fail: 1.4"}), trainer="ann"
    ).version
    with pytest.raises(ModelError, match="calibration"):
        registry.promote("underwriting", failing, "ben", "good")


def test_a_file_that_is_not_what_was_registered_is_neither_promoted_nor_loaded(tmp_path: Path):
    registry = Registry(tmp_path)
    made = registry.register(trained(), trainer="ann")
    file = made.path / "model.skops"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    for use in (
        lambda: registry.promote("underwriting", made.version, "ben", "good"),
        lambda: registry.checked("underwriting", made.version),
        lambda: registry.load("underwriting", made.version),
    ):
        with pytest.raises(ModelError, match=f"{made.version}: model.skops is not what was"):
            use()
    assert registry.get("underwriting", made.version).state == "CANDIDATE"


def test_scoring_takes_the_champion_else_the_newest_candidate(tmp_path: Path):
    registry = Registry(tmp_path)
    assert registry.current("underwriting") is None
    versions = [registry.register(trained(seed=s), trainer="ann").version for s in range(3)]
    current = registry.current("underwriting")
    assert current is not None
    assert (current.version, current.state) == (versions[2], "CANDIDATE")
    registry.promote("underwriting", versions[0], "ben", "first")
    assert registry.current("underwriting").version == versions[0]  # pyright: ignore[reportOptionalMemberAccess]
    registry.promote("underwriting", versions[1], "ben", "better")
    states = {v.version: v.state for v in registry.list_versions("underwriting")}
    assert states == dict(zip(versions, ["CHALLENGER", "CHAMPION", "CANDIDATE"], strict=True))
    registry.retire("underwriting", versions[1], "ben", "drift")
    assert registry.current("underwriting").version == versions[2]  # pyright: ignore[reportOptionalMemberAccess]
    log = registry.transitions("underwriting")
    assert [t.state for t in log if t.version == versions[1]] == [
        "CANDIDATE", "VALIDATED", "APPROVED", "CHAMPION", "RETIRED",
    ]  # fmt: skip


def test_a_challenger_stays_in_the_shadow_until_it_is_promoted(tmp_path: Path):
    registry = Registry(tmp_path)
    shadow = registry.register(trained(seed=1, state="CHALLENGER"), trainer="ann").version
    assert registry.current("underwriting") is None
    card = registry.register(trained(), trainer="ann").version
    assert registry.current("underwriting").version == card  # pyright: ignore[reportOptionalMemberAccess]
    registry.promote("underwriting", shadow, "ben", "wins")
    assert registry.current("underwriting").version == shadow  # pyright: ignore[reportOptionalMemberAccess]


def test_the_champion_is_not_promoted_again(tmp_path: Path):
    registry = Registry(tmp_path)
    version = registry.register(trained(), trainer="ann").version
    registry.promote("underwriting", version, "ben", "good")
    before = registry.transitions("underwriting")
    with pytest.raises(ModelError, match="champion already"):
        registry.promote("underwriting", version, "carol", "again")
    assert registry.transitions("underwriting") == before


def test_a_changed_model_file_is_refused(tmp_path: Path):
    registry = Registry(tmp_path)
    version = registry.register(trained(), trainer="ann")
    with zipfile.ZipFile(version.path / "model.skops", "a") as archive:
        archive.writestr("extra", "x")
    with pytest.raises(ModelError, match="not what was registered"):
        registry.load("underwriting", version.version)


def test_an_unknown_version_is_named_with_what_there_is(tmp_path: Path):
    registry = Registry(tmp_path)
    version = registry.register(trained(), trainer="ann").version
    with pytest.raises(ModelError, match=version):
        registry.get("underwriting", "nope")
    with pytest.raises(ModelError, match="none"):
        registry.get("fraud", "nope")


@pytest.mark.parametrize("file", ["manifest.json", "reasons.json", "metrics.json", "scorecard.csv"])
def test_no_file_of_a_version_can_change(tmp_path: Path, file: str):
    registry = Registry(tmp_path)
    made = registry.register(trained(gates={"calibration": "fail: 1.4"}), trainer="ann")
    path = made.path / file
    path.write_text(path.read_text().replace("fail", "warn") + " ")
    with pytest.raises(ModelError, match=f"{file} is not what was registered"):
        registry.promote("underwriting", made.version, "ben", "good")
    with pytest.raises(ModelError, match=file):
        registry.load("underwriting", made.version)
    # The same training mends it, as a candidate; what was there is kept aside.
    again = registry.register(trained(gates={"calibration": "fail: 1.4"}), trainer="ann")
    assert (again.version, again.state) == (made.version, "CANDIDATE")
    registry.load("underwriting", made.version)
    assert [p.parent.name[:9] for p in tmp_path.glob("underwriting/.damaged-*/*")] == [".damaged-"]


def test_a_version_whose_files_are_missing_hides_no_other(tmp_path: Path):
    registry = Registry(tmp_path)
    gone, stays = (registry.register(trained(seed=s), trainer="ann") for s in (0, 1))
    registry.promote("underwriting", gone.version, "ben", "good")
    gone.path.rename(tmp_path / "elsewhere")
    assert [v.version for v in registry.list_versions()] == [stays.version]
    # Another version must not score in the champion's place without a word.
    with pytest.raises(ModelError, match="its files are not in"):
        registry.current("underwriting")
    current = registry.retire("underwriting", gone.version, "ben", "lost")
    assert current is not None
    assert current.version == stays.version


def test_a_worse_version_than_the_champion_is_not_promoted(tmp_path: Path):
    registry = Registry(tmp_path)
    better, worse, compared = (
        registry.register(
            trained(seed=seed, metrics={"out_of_time": {"auc": auc}}, **told), trainer="ann"
        )
        for seed, auc, told in ((0, 0.7, {}), (1, 0.69, {}), (2, 0.69, {"compared_with": "x"}))
    )
    registry.promote("underwriting", better.version, "ben", "good")
    for version in (worse.version, compared.version):
        with pytest.raises(ModelError, match=r"auc 0\.6900 out of time, the champion .* 0\.7000"):
            registry.promote("underwriting", version, "ben", "newer")
    of_its_gate = registry.register(
        trained(seed=3, metrics={"out_of_time": {"auc": 0.69}}, compared_with=better.version),
        trainer="ann",
    )  # fmt: skip
    registry.promote("underwriting", of_its_gate.version, "ben", "no worse on the same rows")
    registry.retire("underwriting", of_its_gate.version, "ben", "drift")
    registry.promote("underwriting", worse.version, "ben", "back to what held")
    with pytest.raises(ModelError, match="was retired"):
        registry.promote("underwriting", of_its_gate.version, "ben", "again")


@pytest.mark.parametrize("approver", ["Ann", " ann ", "ａｎｎ", "ann\u200b", "a\u00adnn"])
def test_a_trainer_is_known_behind_other_signs(tmp_path: Path, approver: str):
    registry = Registry(tmp_path)
    version = registry.register(trained(), trainer="ann").version
    with pytest.raises(ModelError, match=r"trained by|cannot be seen"):
        registry.promote("underwriting", version, approver, "good")


def test_of_two_promotions_at_once_one_is_told_that_it_came_late(tmp_path: Path):
    registry = Registry(tmp_path)
    version = registry.register(trained(), trainer="ann").version

    def promoted(approver: str) -> str | None:
        try:
            return Registry(tmp_path).promote("underwriting", version, approver, "good").state
        except ModelError:
            return None

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(promoted, [f"approver {n}" for n in range(8)]))
    assert sorted(filter(None, states)) == ["CHAMPION"]
    assert len(registry.transitions("underwriting")) == 4
