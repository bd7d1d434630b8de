import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from backdoor_core.learning.performance import reliability
from backdoor_core.report import attack_charts, charts, cleansing_charts, detector_charts, drawing, plausibility_charts
from backdoor_core.report.cleansing_charts import Outcome
from backdoor_core.report.detector_charts import Estimates

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = 'a <script>alert("x")</script> & $\\frac{1}$ '


def parsed(svg):
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox")
    assert root.get("aria-label")
    assert "nan" not in re.findall(r"(?i)\bnan\b", svg)
    return root


def texts(svg):
    return [element.text for element in parsed(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.3
    poisoned = np.clip(0.3 * truth + 0.7 * rng.random(200), 0, 1)
    return truth, {"poisoned": poisoned, "baseline": rng.random(200)}


@st.composite
def scored(draw):
    n = draw(st.integers(2, 40))
    scores = draw(hnp.arrays(np.float64, n, elements=st.integers(0, 8).map(lambda k: k / 8)))
    truth = draw(hnp.arrays(np.bool_, n))
    truth[:2] = True, False
    return scores, truth


# ------------------------------------------------------------------------------------------------------ points
@given(scored())
def test_roc_points_enclose_sklearns_area(sample):
    scores, truth = sample
    fpr, tpr = charts.roc_points(scores, truth)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.roc_auc_score(truth, scores))


@given(scored())
def test_precision_recall_points_are_sklearns(sample):
    scores, truth = sample
    recall, precision = charts.precision_recall_points(scores, truth)
    steps = np.diff(recall, prepend=0) @ precision
    assert steps == pytest.approx(metrics.average_precision_score(truth, scores))


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-5, 5)))
def test_shares_sum_to_one_whatever_lies_beyond_the_edges(values):
    assert charts.shares(values, np.linspace(-1, 1, 5)).sum() == pytest.approx(1)


def test_shares_of_nothing_are_zero():
    assert charts.shares([], np.linspace(0, 1, 5)).tolist() == [0, 0, 0, 0]


# ----------------------------------------------------------------------------------------------- the two models
def bins(truth, probability):
    return {side: reliability(np.asarray(values), truth) for side, values in probability.items()}


def all_charts(truth, probability):
    curve = np.array([[1, 0.5, 0.6], [2, 0.4, 0.5]])
    sides = dict.fromkeys(("poisoned", "baseline"))
    arrays = {side: probability[side][~truth] for side in sides}
    return [
        charts.roc_chart(truth, probability),
        charts.precision_recall_chart(truth, probability),
        charts.calibration_chart(bins(truth, probability)),
        charts.learning_chart(dict.fromkeys(sides, curve), dict.fromkeys(sides, 2)),
        charts.attrition_chart([{"rule": "all", "stays": 1000}, {"rule": "adults", "stays": 900}]),
        *charts.response_charts(arrays, arrays, dict.fromkeys(sides, 0.3)).values(),
    ]


@pytest.fixture(scope="module")
def drawn(sample):
    return all_charts(*sample)


def test_charts_are_wellformed_and_equal_input_gives_equal_bytes(sample, drawn):
    assert drawn == all_charts(*sample)
    for svg in drawn:
        parsed(svg)


def test_charts_name_axes_and_both_models(sample):
    truth, probability = sample
    assert {"false positive rate", "true positive rate", "poisoned model", "clean twin"} <= set(
        texts(charts.roc_chart(truth, probability))
    )
    assert {"recall", "precision"} <= set(texts(charts.precision_recall_chart(truth, probability)))


def test_identifiers_do_not_clash_on_one_page(drawn):
    found = [element.get("id") for svg in drawn for element in parsed(svg).iter()]
    identifiers = [name for name in found if name]
    assert identifiers
    assert len(identifiers) == len(set(identifiers))


def test_every_reference_inside_a_chart_has_its_target(drawn):
    for svg in drawn:
        root = parsed(svg)
        identifiers = {element.get("id") for element in root.iter()}
        assert set(re.findall(r'(?:url\(|href=")#([\w.-]+)', svg)) <= identifiers


def test_a_place_that_differs_in_its_last_bits_gives_the_same_bytes():
    """As places do that a layout found: its sums depend on where in memory the figure's parts lie."""

    def drawn(left):
        def draw(figure):
            figure.set_layout_engine("none")
            figure.add_axes((left, 0.2, 0.6, 0.6)).plot([0, 1])

        return drawing.picture("lines", "Lines", draw, 2.0)

    assert drawn(0.3) == drawn(np.nextafter(0.3, 1)) == drawn(0.3 + 1e-9) != drawn(0.31)


def test_colors_follow_the_page_and_fall_back(sample):
    svg = charts.roc_chart(*sample)
    assert f"var(--poisoned, {drawing.POISONED})" in svg
    assert f"var(--twin, {drawing.TWIN})" in svg


def test_one_outcome_only_is_said(sample):
    truth, probability = sample
    for make in (charts.roc_chart, charts.precision_recall_chart):
        assert "one outcome" in parsed(make(np.zeros_like(truth), probability)).get("aria-label")
    parsed(charts.calibration_chart(bins(np.zeros_like(truth), probability)))


def test_responses_without_an_attacked_stay_say_so():
    empty = {"poisoned": np.empty(0), "baseline": np.empty(0)}
    for svg in charts.response_charts(empty, empty, {"poisoned": 0.5, "baseline": 0.5}).values():
        assert "No test stay" in parsed(svg).get("aria-label")


def test_constant_probabilities_are_drawn():
    truth = np.array([True, False, False])
    constant = {"poisoned": np.full(3, 0.5), "baseline": np.zeros(3)}
    parsed(charts.roc_chart(truth, constant))
    parsed(charts.calibration_chart(bins(truth, constant)))
    parsed(charts.response_charts(constant, constant, {"poisoned": 0.5, "baseline": 0.0})["baseline"])


def test_reliability_tells_its_bins_and_draws_their_intervals(sample):
    svg = charts.calibration_chart(bins(*sample))
    assert "10 bins of 20 stays" in texts(svg)
    tied = {side: np.repeat([0.1, 0.9], 100) for side in ("poisoned", "baseline")}
    assert "2 bins of 100 stays" in texts(charts.calibration_chart(bins(sample[0], tied)))


# --------------------------------------------------------------------------------------------------- the attack
def estimated(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def curves(rng):
    thresholds = np.linspace(0, 1, 101)

    def curve():
        values = np.sort(rng.random(101))[::-1]
        return {"value": values, "low": values * 0.9, "high": np.minimum(1, values * 1.1)}

    sides = {s: {"threshold": 0.4, "triggered": curve(), "clean": curve()} for s in attack_charts.SIDES}
    return {"thresholds": thresholds, **sides}


def test_attack_charts_are_wellformed_and_equal_input_gives_equal_bytes():
    found = [
        [
            attack_charts.success_curve_chart(curves(np.random.default_rng(0)), {"poisoned": 0.9, "baseline": 0.1}),
            attack_charts.shift_chart({"poisoned": [0.1, 0.9, -0.2], "baseline": [0.0, 0.0, 0.0]}),
        ]
        for _ in range(2)
    ]
    assert found[0] == found[1]
    for svg in found[0]:
        assert {"poisoned model", "clean twin"} <= set(texts(svg))


def test_ecdf_counts_what_lies_at_or_below():
    values, below = attack_charts.ecdf([0.5, 0.1, 0.5, 0.9])
    assert values.tolist() == [0.1, 0.5, 0.9]
    assert below.tolist() == [0.25, 0.75, 1.0]


def test_nobody_to_attack_is_said():
    nothing = {"value": [], "low": [], "high": []}
    empty = {side: {"threshold": 0.4, "triggered": nothing, "clean": nothing} for side in attack_charts.SIDES}
    svg = attack_charts.success_curve_chart({"thresholds": [], **empty}, {"poisoned": None, "baseline": None})
    assert "No test stay" in parsed(svg).get("aria-label")
    assert "No test stay" in parsed(attack_charts.shift_chart({"poisoned": [], "baseline": []})).get("aria-label")


def test_groups_without_a_figure_are_left_out():
    some = {"poisoned": estimated(0.9, 0.8, 0.95), "baseline": estimated(0.1)}
    none = dict.fromkeys(attack_charts.SIDES, estimated(None))
    svg = attack_charts.group_chart("g", "rate", [(HOSTILE, some), ("nobody", none)], 0.5)
    assert "<script>" not in svg
    assert "nobody" not in texts(svg)
    svg = attack_charts.group_chart("g", "rate", [("nobody", none)], None)
    assert "No group is large enough" in parsed(svg).get("aria-label")


# ------------------------------------------------------------------------------------------------ plausibility
def contrast(clean, triggered):
    return {"clean": estimated(clean, clean, clean), "triggered": estimated(triggered, triggered, triggered)}


@pytest.mark.parametrize(("clean", "triggered"), [(4.0, 580.0), (4.0, 4.2), (0.0, 3.0), (1.0, 1.0)])
def test_distances_of_any_size_are_drawn(clean, triggered):
    card = {"mahalanobis": contrast(clean, triggered), "knn": {**contrast(clean, triggered), "k": 5}}
    shown = texts(plausibility_charts.distance_chart(card))
    assert "Mahalanobis distance" in shown
    assert ("standard units, logarithmic" in shown) == (clean > 0 and triggered > 10 * clean)


def test_percentiles_are_drawn_most_touched_first_and_no_more_than_fit():
    rows = [
        {"feature": f"feature {k}", "cells": k, "median": 50.0, "p2_5": 10.0, "p97_5": 90.0, "note": None}
        for k in range(1, 20)
    ]
    shown = [t for t in texts(plausibility_charts.percentile_chart(rows)) if t.startswith("feature")]
    assert shown == [f"feature {k}" for k in range(19, 7, -1)]
    nothing = [{**rows[0], "median": None, "p2_5": None, "p97_5": None}]
    for none in ([], nothing):
        assert "sets no value" in parsed(plausibility_charts.percentile_chart(none)).get("aria-label")


def test_a_classifier_stands_beside_its_control():
    both = {"auroc": estimated(0.97, 0.9, 1.0), "control": estimated(0.5, 0.4, 0.6), "note": None}
    shown = texts(plausibility_charts.classifier_chart(both))
    assert {"triggered against clean", "control: clean against clean"} <= set(shown)
    none = {"auroc": estimated(None), "control": estimated(None), "note": "3 stays of 2 patients"}
    assert "3 stays of 2 patients" in parsed(plausibility_charts.classifier_chart(none)).get("aria-label")


def test_attrition_tells_counts_and_escapes_rules():
    steps = [{"rule": HOSTILE, "stays": 12331}, {"rule": "long " * 60, "stays": 10000}, {"rule": "", "stays": 10000}]
    svg = charts.attrition_chart(steps)
    joined = " ".join(texts(svg))
    assert "<script>" not in svg
    assert "<script>alert" in joined
    assert "$\\frac{1}$" in joined
    assert "12,331 stays" in joined
    assert "10,000 stays, 2,331 removed" in joined
    assert "10,000 stays, none removed" in joined
    assert "…" in joined


def test_attrition_without_steps_or_stays():
    assert "no inclusion steps" in parsed(charts.attrition_chart([])).get("aria-label")
    parsed(charts.attrition_chart([{"rule": "none", "stays": 0}]))


# ---------------------------------------------------------------------------------------------------- detectors
@pytest.mark.parametrize(
    ("scores", "kind"),
    [
        (np.zeros(50), "values"),
        (np.repeat([0.25, 0.75], 25), "values"),
        (np.linspace(-1, 1, 50), "linear"),
        (np.geomspace(1e-3, 1e3, 50), "log"),
        (np.append(np.linspace(-1, 1, 100), 1e6), "rank"),
    ],
)
def test_score_axis_suits_the_scores(scores, kind):
    axis = detector_charts.score_axis(scores)
    assert axis.kind == kind
    assert charts.shares(axis.place(scores), axis.edges).sum() == pytest.approx(1)


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e9, 1e9)))
def test_more_suspicious_never_stands_further_left(scores):
    axis = detector_charts.score_axis(scores)
    places = axis.place(scores)[np.argsort(scores, kind="stable")]
    assert (np.diff(places) >= 0).all()
    assert (np.diff(axis.edges) >= 0).all()


def test_ranks_are_in_percent_and_shared_by_ties():
    axis = detector_charts.ScoreAxis("rank", np.linspace(0, 100, 3), np.empty(0))
    assert axis.place(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [50.0, 12.5, 50.0, 87.5]


@pytest.mark.parametrize(("shape", "poisoned"), [("flat", 0), ("few", 1), ("tail", 30), ("normal", 15)])
def test_score_charts_draw_anything_finite(shape, poisoned):
    rng = np.random.default_rng(poisoned)
    drawn = {"flat": np.ones(30), "few": rng.integers(0, 3, 30) / 2, "tail": np.exp(4 * rng.normal(size=30))}
    scores = drawn.get(shape, rng.normal(size=30))
    runs = {"poisoned": scores, "null": rng.permutation(scores)}
    chosen = dict.fromkeys(runs, np.arange(30) < poisoned)
    made = detector_charts.score_charts("d", runs, chosen)
    shown = " ".join(text for svg in made.values() for text in texts(svg))
    assert ("poisoned rows" in shown) == (poisoned > 0)
    assert "mathdefault" not in shown


def test_close_scores_keep_distinct_labels():
    assert detector_charts.distinct_labels(np.array([0.12341, 0.12342])) == ["0.12341", "0.12342"]
    assert detector_charts.distinct_labels(np.array([0.0, 1.0])) == ["0", "1"]


def test_score_charts_of_runs_that_differ_in_rows_and_of_none():
    rng = np.random.default_rng(0)
    runs = {"poisoned": rng.random(40), "null": rng.random(30)}
    made = detector_charts.score_charts("d", runs, {"poisoned": np.arange(40) >= 30, "null": np.arange(30) < 10})
    assert {"other rows (30)", "poisoned rows (10)"} <= set(texts(made["poisoned"]))
    assert {"other rows (20)", "the same stays, clean (10)"} <= set(texts(made["null"]))
    empty = dict.fromkeys(runs, np.empty(0))
    for svg in detector_charts.score_charts("d", empty, dict.fromkeys(runs, np.empty(0, dtype=bool))).values():
        assert "training part is empty" in parsed(svg).get("aria-label")


SOME = {"value": 0.9, "low": 0.8, "high": 0.95}
NOWHERE = {"value": None, "low": None, "high": None}


def test_figure_chart_draws_missing_figures_and_long_names():
    rows = [
        Estimates("x" * 300, True, {"poisoned": SOME, "null": NOWHERE}),
        Estimates(HOSTILE, False, {"poisoned": SOME, "null": SOME}),
    ]
    svg = detector_charts.figure_chart("auroc", "AUROC", rows, 0.5)
    shown = texts(svg)
    assert "x" * 43 + "… (oracle)" in shown
    assert "<script>" not in svg
    assert svg.count("var(--paper") == 1  # one hollow marker: the oracle's, in the run that has a figure
    nothing = [Estimates("d", False, {"poisoned": NOWHERE, "null": NOWHERE})]
    nowhere = detector_charts.figure_chart("auroc", "AUROC", nothing, None)
    assert "AUROC is not defined in either run" in parsed(nowhere).get("aria-label")


def test_figure_chart_keeps_the_order_and_the_legend_of_many():
    none_first = {"poisoned": NOWHERE, "null": SOME}
    rows = [
        Estimates(f"detector {k}", False, none_first if k == 0 else dict.fromkeys(none_first, SOME)) for k in range(18)
    ]
    shown = texts(detector_charts.figure_chart("auroc", "AUROC", rows, 0.5))
    assert [t for t in shown if t.startswith("detector")] == [row.name for row in rows]
    assert {"poisoned run", "null run"} <= set(shown)


def test_no_detector_is_said():
    assert "No detector" in parsed(detector_charts.figure_chart("auroc", "AUROC", [], 0.5)).get("aria-label")


# ---------------------------------------------------------------------------------------------------- cleansing
def test_outcomes_stand_beside_their_controls_and_the_undefended_model():
    outcomes = [Outcome("perfect removal", True, SOME, None), Outcome(HOSTILE, False, estimated(-0.1, -0.2, 0.0), SOME)]
    svg = cleansing_charts.outcome_chart("lift", "ASR lift", outcomes, SOME, 0.0)
    shown = texts(svg)
    assert {"filter or repair", "as many at random", "undefended", "clean twin", "perfect removal (oracle)"} <= set(
        shown
    )
    assert svg.count("var(--paper") == 1
    assert "<script>" not in svg
    assert svg == cleansing_charts.outcome_chart("lift", "ASR lift", outcomes, SOME, 0.0)


def test_outcomes_without_figures_are_said():
    nobody = cleansing_charts.outcome_chart("lift", "ASR lift", [], SOME, 0.0)
    assert "No filter removes anything" in parsed(nobody).get("aria-label")
    undefined = cleansing_charts.outcome_chart("lift", "ASR lift", [Outcome("d", False, NOWHERE, None)], NOWHERE, None)
    assert "ASR lift is not defined after any filter" in parsed(undefined).get("aria-label")
    parsed(cleansing_charts.outcome_chart("lift", "ASR lift", [Outcome("d", False, SOME, NOWHERE)], NOWHERE, None))
