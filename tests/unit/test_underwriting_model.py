"""The scorecard: bins, points, reasons, gates and what it may not look at."""

import copy
import itertools
import json
import re
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from models.common.dataset import matrix
from models.common.errors import ModelError, NotEnoughOutcomes
from models.common.reasons import worst_first
from models.common.validation import render_validation
from models.underwriting.binning import monotone_bins
from models.underwriting.catalogue import CATALOGUE, entry_for, prohibited_features
from models.underwriting.challenger import MonotoneBoosting
from models.underwriting.policy import policy_reasons
from models.underwriting.scorecard import REASON_METHODS, Scorecard, reference_groups
from models.underwriting.scoring import key_factors, row_reasons, score_frame
from models.underwriting.training import (
    OutcomeFrame,
    ScorecardParameters,
    gates,
    train_challenger,
    train_scorecard,
)

FEATURES = ["bur_util_rev", "bur_inq_6m_n", "stated_income_minor", "bur_sat_pct"]


def decisions(rows: int = 3000, seed: int = 0) -> pl.DataFrame:
    """Risk grows with utilisation and inquiries; one feed (bur_sat_pct) never arrived."""
    generator = np.random.default_rng(seed)
    util = generator.beta(2, 3, rows)
    inquiries = generator.poisson(2, rows)
    logit = -4 + 4 * util + 0.35 * inquiries
    bad = generator.random(rows) < 1 / (1 + np.exp(-logit))
    return pl.DataFrame(
        {
            "application_id": [f"a{i:05}" for i in range(rows)],
            "person": [f"p{i % (rows - 200)}" for i in range(rows)],
            "decision_at": [
                datetime(2024, 1, 1) + timedelta(days=int(d))
                for d in generator.integers(0, 480, rows)
            ],
            "is_bad": bad.astype(int),
            "bur_util_rev": pl.Series(util).set(pl.Series(generator.random(rows) < 0.1), None),
            "bur_inq_6m_n": inquiries,
            "stated_income_minor": generator.integers(2_000_000, 20_000_000, rows),
            "bur_sat_pct": pl.Series([None] * rows, dtype=pl.Float64),
        }
    )


def train(frame: pl.DataFrame, features: list[str] | None = None, challenge=None, **settings):
    arguments = (
        OutcomeFrame(
            frame, "application_id", "person", "decision_at", "is_bad",
            {"GOOD": 1}, datetime(2026, 1, 1),
        ),
        features or FEATURES,
    )  # fmt: skip
    told = {"name": "underwriting", "purpose": "p", "target": "t", **settings}
    if challenge is not None:
        return train_challenger(*arguments, challenge, **told)
    return train_scorecard(*arguments, **told)


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return decisions()


@pytest.fixture(scope="module")
def model(frame: pl.DataFrame):
    return train(frame)


@pytest.fixture(scope="module")
def pair(frame: pl.DataFrame, model):
    """The scorecard and its challenger."""
    return model, train(frame, challenge=model)


def test_it_ranks_out_of_time_and_keeps_what_it_could_not_use(model):
    assert model.metrics["out_of_time"]["auc"] > 0.65
    assert model.metrics["development"]["calibration_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert set(model.features) == {"bur_util_rev", "bur_inq_6m_n"}
    assert "all missing" in model.dropped_features["bur_sat_pct"]
    assert "information value" in model.dropped_features["stated_income_minor"]
    assert not [g for g in model.gates.values() if g.startswith("fail")]


def test_a_feature_that_only_the_calibration_rows_know_is_left_out_of_the_challenger(frame):
    """A feed that began late: known from day 300 on, as only rows to calibrate on are."""
    began = datetime(2024, 1, 1) + timedelta(days=300)
    number = pl.int_range(pl.len())
    is_low = (pl.col("is_bad") == 1) & (number % 4 > 0)
    share = pl.when(is_low).then(0.0).otherwise(number % 10 / 10)
    late = frame.with_columns(
        pl.when(pl.col("decision_at") >= began).then(share).alias("bur_sat_pct")
    )
    scorecard = train(late)
    assert "bur_sat_pct" not in scorecard.dropped_features
    challenger = train(late, challenge=scorecard)
    assert "bur_sat_pct" not in challenger.features
    assert "all missing before" in challenger.dropped_features["bur_sat_pct"]


def test_training_again_gives_the_same_model_whatever_the_row_order(frame, model):
    again = train(frame.sample(fraction=1.0, shuffle=True, seed=9))
    assert again.dataset_sha256 == model.dataset_sha256
    values = matrix(frame, model.estimator.inputs_)
    difference = model.estimator.predict_proba(values) - again.estimator.predict_proba(values)
    assert np.abs(difference).max() <= 1e-9


@pytest.mark.parametrize("feature", ["bur_util_rev", "bur_inq_6m_n"])
def test_declared_directions_hold_on_a_grid(model, feature):
    card: Scorecard = model.estimator
    grid = np.full((200, len(card.inputs_)), np.nan)
    grid[:, card.inputs_.index(feature)] = np.linspace(-1, 30, 200)
    assert (np.diff(card.predict_proba(grid)[:, 1]) >= 0).all()


def test_points_add_up_to_the_score_and_the_score_is_the_probability(frame, model):
    card: Scorecard = model.estimator
    values = matrix(frame, card.inputs_)
    score = card.total_points(values)
    assert card.points(values).sum(axis=1) == pytest.approx(score)
    probability = card.predict_proba(values)[:, 1]
    log_odds = np.log((1 - probability) / probability)
    # 50 good to 1 bad is 600 points and 20 points double it.
    assert score == pytest.approx(600 + 20 / np.log(2) * (log_odds - np.log(50)))


def test_scores_carry_reasons_that_cost_points(frame, model):
    scored = score_frame(model.estimator, model.reasons, frame)
    assert scored.columns == [
        "pd", "score", "reasons", "key_factors", "features", "feature_vector_sha256"
    ]  # fmt: skip
    texts = [json.loads(r) for r in scored["reasons"]]
    assert max(len(r) for r in texts) <= 4
    assert all(reason["points_lost"] > 0 for r in texts for reason in r)
    assert all(len({x["text"] for x in r}) == len(r) for r in texts)
    worst = scored["pd"].arg_max()
    assert worst is not None
    assert texts[worst]


def test_a_missing_value_has_the_reason_for_missing_data(frame, model):
    card: Scorecard = copy.deepcopy(model.estimator)
    values = matrix(frame, card.inputs_)
    missing = values[np.isnan(values[:, card.inputs_.index("bur_util_rev")])][:1]
    # The missing bin must cost points here, whatever it did in this sample.
    card.points_[card.features_.index("bur_util_rev")][-1] -= 50
    reasons = row_reasons(card, model.reasons, missing)[0]
    assert "No credit file" in next(r.text for r in reasons if r.feature == "bur_util_rev")


@pytest.mark.parametrize("method", REASON_METHODS)
def test_every_decline_has_a_reason_by_every_method(frame, pair, method):
    for model in pair:
        estimator = model.estimator
        values = matrix(frame, estimator.inputs_)
        declined = values[estimator.total_points(values) < estimator.cutoff_score_]
        reasons = row_reasons(estimator, model.reasons, declined, method)
        assert len(declined) > 100
        assert all(reasons)
        assert all(r.points_lost > 0 for row in reasons for r in row)


def test_the_cut_off_group_is_at_or_slightly_above_the_cut_off(frame, model):
    card: Scorecard = model.estimator
    score = card.total_points(matrix(frame, card.inputs_))
    cutoff, groups = reference_groups(score, 0.2)
    assert (score[groups["cutoff"]] >= cutoff).all()
    assert (score < cutoff).mean() == pytest.approx(0.2, abs=0.02)
    assert score[groups["cutoff"]].mean() < score.mean() < score[groups["maximum"]].mean()


def test_inquiries_are_a_fifth_key_factor():
    lost = {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0, "e": 5.0, "inq": 1.0, "inq2": 0.5}
    wording = {f: ("R15", "Inquiries") if "inq" in f else (f, f) for f in lost}
    found = worst_first(lost, wording, besides="R15")
    assert [r.feature for r in found] == ["a", "b", "c", "d", "inq"]
    assert [r.feature for r in worst_first(lost, wording)] == ["a", "b", "c", "d"]
    among = worst_first({**lost, "inq": 10.0}, wording, besides="R15")
    assert [r.feature for r in among] == ["inq", "a", "b", "c"]


def test_the_best_bins_have_no_reasons(model):
    card: Scorecard = model.estimator
    row = np.full((1, len(card.inputs_)), np.nan)
    for k, feature in enumerate(card.features_):
        best = int(np.argmax(card.points_[k][:-1]))
        edges = [-1e9, *card.edges_[k], 1e9]
        row[0, card.inputs_.index(feature)] = (
            edges[best] if np.isfinite(edges[best]) and best else edges[1] - 1e-6
        )
    assert (card.points(row) == [p[:-1].max() for p in card.points_]).all()
    for method in REASON_METHODS:
        assert row_reasons(card, model.reasons, row, method) == [[]]
    assert key_factors(card, model.reasons, row) == [[]]


def test_the_logged_vector_gives_the_score_and_the_reasons_again(frame, pair):
    for model in pair:
        scored = score_frame(model.estimator, model.reasons, frame.head(40), "cutoff")
        schema = dict.fromkeys(model.features, pl.Float64)
        vector = pl.DataFrame([json.loads(v) for v in scored["features"]], schema=schema)
        again = score_frame(model.estimator, model.reasons, vector, "cutoff")
        assert again.equals(scored)


def test_the_challengers_points_lost_add_up_and_equal_all_orders(frame, pair):
    challenger: MonotoneBoosting = pair[1].estimator
    values = matrix(frame, challenger.inputs_)
    generator = np.random.default_rng(5)
    # A third feature that interacts with both others.
    wide = np.column_stack([values[:, :2], generator.random(len(values))])
    bad = generator.random(len(wide)) < 0.6 * wide[:, 2] * np.nan_to_num(wide[:, 0], nan=0.5)
    model = MonotoneBoosting(max_iter=40).fit(wide, bad.astype(int), directions=[1, 1, 0])
    model.set_references(wide, 0.2)
    rows = wide[:25]
    for method in REASON_METHODS:
        lost = model.points_lost(rows, method)
        reference = model.references_[method]
        assert lost.sum(axis=1) == pytest.approx(
            model.total_points(reference).mean() - model.total_points(rows), abs=1e-6
        )
        brute = np.zeros_like(lost)
        orders = list(itertools.permutations(range(3)))
        for other, order in itertools.product(reference, orders):
            mixed = rows.copy()
            for feature in order:
                before = model.total_points(mixed)
                mixed[:, feature] = other[feature]
                brute[:, feature] += model.total_points(mixed) - before
        assert lost == pytest.approx(brute / (len(orders) * len(reference)), abs=1e-6)


def test_the_challenger_keeps_its_directions_and_stays_in_the_shadow(frame, pair):
    challenger = pair[1]
    assert challenger.state == "CHALLENGER"
    assert challenger.gates["monotone"] == "pass"
    assert {"win_over_scorecard", "reason_agreement"} <= set(challenger.gates)
    assert challenger.dataset_sha256 == pair[0].dataset_sha256
    for k, sign in enumerate(challenger.estimator.directions_):
        if sign:
            grid = np.full((200, len(challenger.features)), np.nan)
            grid[:, k] = np.linspace(-1, 30, 200)
            probability = challenger.estimator.predict_proba(grid)[:, 1]
            assert (np.diff(probability) * sign >= -1e-12).all()
    cells = challenger.metrics["against_scorecard"]["swap_set"]
    assert cells["swapped_in"]["rows"] == cells["swapped_out"]["rows"]


def test_a_challenger_of_another_data_set_is_refused(frame, model):
    with pytest.raises(ModelError, match="one data set"):
        train(frame.head(2500), challenge=model)


def test_the_validation_report_opens_offline_and_draws_everything(pair):
    for model in pair:
        manifest = {
            "name": "underwriting", "version": "v", "purpose": "p", "target": "t",
            "window": model.window, "dataset_sha256": model.dataset_sha256, "trainer": "ann",
            "git_sha": None, "gates": model.gates,
        }  # fmt: skip
        page = render_validation(manifest, model.metrics)
        assert page.count("<svg") == 6
        fetched = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|src=|<script|href=", fetched)
        assert "how declined applicants" in page


def test_an_applicant_who_cannot_pay_breaks_the_policy_and_an_unknown_one_does_not():
    frame = pl.DataFrame(
        {
            "app_dti": [0.2, 0.9, None, 0.3],
            "app_residual_income_minor": [200_000.0, 90_000.0, None, 10_000.0],
            "requested_limit_minor": [500_000, 500_000, 500_000, 500_000],
        }
    )
    found = policy_reasons(frame)
    assert [[r.code for r in row] for row in found] == [[], ["R05"], [], ["R03"]]
    assert policy_reasons(pl.DataFrame({"other": [1]})) == [[]]


@pytest.mark.parametrize(
    "name",
    ["age", "customer_age", "age_years", "sex", "GENDER", "marital_status", "MARRIAGE",
     "birth_year", "race", "app_postal_code", "home_zip", "state", "latitude",
     "public_assistance_income", "EDUCATION", "national_origin"],
)  # fmt: skip
def test_prohibited_features_are_refused(frame, name):
    assert prohibited_features([name]) == [name]
    with pytest.raises(ModelError, match="prohibited"):
        train(frame.with_columns(pl.lit(1).alias(name)), [*FEATURES, name])


def test_the_age_of_a_tradeline_is_not_the_age_of_a_person():
    allowed = ["bur_age_oldest_m", "bur_age_avg_m", "beh_dpd_max_3m", "beh_mob", "app_device_age"]
    assert prohibited_features(allowed) == []


def test_a_feature_without_a_consumer_reason_stays_out(frame):
    model = train(
        frame.with_columns(pl.col("bur_util_rev").alias("mystery")), [*FEATURES, "mystery"]
    )
    assert "mystery" not in model.features
    assert "no consumer reason" in model.dropped_features["mystery"]


def test_no_catalogue_entry_is_shadowed_by_a_prohibited_name_or_lacks_words():
    for entry in CATALOGUE:
        assert entry.text
        assert entry.missing[1]
        assert entry.direction in (-1, 0, 1)


def test_too_few_outcomes_are_not_due(frame):
    with pytest.raises(NotEnoughOutcomes, match="underwriting"):
        train(frame.head(50))
    with pytest.raises(NotEnoughOutcomes):
        train(frame.with_columns(pl.lit(0).alias("is_bad")))


def test_features_that_say_nothing_give_a_clear_error(frame):
    with pytest.raises(ModelError, match="information value"):
        train(frame, ["stated_income_minor"])


def test_bins_are_monotone_filled_and_two_sided():
    generator = np.random.default_rng(2)
    values = generator.random(5000)
    bad = (generator.random(5000) < 0.05 + 0.4 * (values - 0.5) ** 2 + 0.2 * values).astype(int)
    bins = monotone_bins(values, bad, direction=1)
    rate = bins.bads[:-1] / (bins.goods + bins.bads)[:-1]
    assert (np.diff(rate) > 0).all()
    assert (np.diff(bins.woe[:-1]) < 0).all()
    assert ((bins.goods + bins.bads)[:-1] >= 0.05 * 5000).all()
    assert (bins.goods[:-1] > 0).all()
    assert (bins.bads[:-1] > 0).all()


def test_data_against_the_declared_direction_leave_one_bin():
    values = np.linspace(0, 1, 2000)
    bad = (np.arange(2000) % 10 < 10 * values).astype(int)
    assert len(monotone_bins(values, bad, direction=-1).edges) == 0
    assert len(monotone_bins(values, bad, direction=0).edges) > 0


def test_few_missing_rows_say_nothing_and_many_have_their_own_weight():
    values = np.r_[np.linspace(0, 1, 1000), np.full(10, np.nan)]
    bad = np.r_[np.arange(1000) % 5 == 0, np.ones(10)].astype(int)
    assert monotone_bins(values, bad).woe[-1] == 0.0
    values = np.r_[np.linspace(0, 1, 1000), np.full(100, np.nan)]
    bad = np.r_[np.arange(1000) % 5 == 0, np.ones(100)].astype(int)
    assert monotone_bins(values, bad).woe[-1] < 0


def test_gates_fail_on_a_lost_champion_comparison_and_lasting_miscalibration(model):
    assert "champion_auc" not in model.gates
    lost = gates({**model.metrics, "champion_auc": 0.99}, model.estimator)
    assert lost["champion_auc"].startswith("fail")
    sample = {**model.metrics["out_of_time"], "calibration_ratio": 2.0}
    off = gates({**model.metrics, "out_of_time": sample}, model.estimator)
    assert off["calibration"].startswith("fail")
    shifted = {**model.metrics["out_of_time"], "score_psi": 0.4}
    assert gates({**model.metrics, "out_of_time": shifted}, model.estimator)[
        "score_psi"
    ].startswith("fail")


def test_settings_are_recorded(frame):
    found = train(frame, parameters=ScorecardParameters(pdo=40))
    assert found.parameters["pdo"] == 40
    assert "bur_util_rev" in found.tables["scorecard.csv"]
    assert entry_for("bur_util_rev") is not None


def test_known_probabilities_are_recovered_within_their_band_by_decile():
    """Where the truth is known: of later applicants, not seen in development."""
    generator = np.random.default_rng(11)
    rows = 30_000
    util, inquiries = generator.beta(2, 3, rows), generator.poisson(2, rows)
    truth = 1 / (1 + np.exp(4.2 - 3.5 * util - 0.3 * inquiries))
    frame = pl.DataFrame(
        {
            "application_id": [f"a{i:05}" for i in range(rows)],
            "person": [f"p{i:05}" for i in range(rows)],
            "decision_at": [
                datetime(2024, 1, 1) + timedelta(days=int(d))
                for d in generator.integers(0, 480, rows)
            ],
            "is_bad": (generator.random(rows) < truth).astype(int),
            "bur_util_rev": util,
            "bur_inq_6m_n": inquiries,
        }
    )
    card = train(frame, ["bur_util_rev", "bur_inq_6m_n"])
    challenger = train(frame, ["bur_util_rev", "bur_inq_6m_n"], challenge=card)
    later = (frame["decision_at"] >= datetime(2025, 2, 1)).to_numpy()
    for model in (card, challenger):
        values = matrix(frame, model.estimator.inputs_)
        found = model.estimator.predict_proba(values)[:, 1]
        order = np.argsort(found[later], kind="stable")
        for decile in np.array_split(np.flatnonzero(later)[order], 10):
            expected, known = found[decile].mean(), truth[decile].mean()
            # The band of a bad rate measured on this decile's later applicants.
            band = 1.96 * np.sqrt(known * (1 - known) / len(decile))
            assert abs(expected - known) <= band
