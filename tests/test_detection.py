import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from small import make_view

from backdoor_core.contracts import Detection, DetectionCase, Detector, Trusted, WithheldError
from backdoor_core.detection.case import Access, make_case, run_detector
from backdoor_core.detection.judge import judge
from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text
from backdoor_core.statistics import cluster_bootstrap_weights


class FakeVictim:
    def embedding(self, view):
        return view.values[:, :3]

    def logits(self, view):
        return view.values[:, 0].astype(float)

    def inputs(self, view):
        return view.values

    gradient = inputs


def case_for(requires) -> DetectionCase:
    detector = type("D", (Detector,), {"name": "d", "requires": frozenset(requires), "detect": lambda self, case: None})
    view, label = make_view(40)
    truth = np.arange(40) < 4
    victim = FakeVictim()
    access = Access(victim, lambda: [(1, 1e-3, victim)], lambda keep: victim.logits(view))
    trusted = Trusted(view.take(np.arange(20)), label[:20])
    return make_case(detector(None, None), view, label, access, truth, np.random.default_rng(0), trusted)


NEEDS = {
    "labels": lambda case: case.labels,
    "inputs": lambda case: case.inputs,
    "embedding": lambda case: case.embedding,
    "gradient": lambda case: case.gradient,
    "predict": lambda case: case.logits,
    "checkpoints": lambda case: case.checkpoints[0].logits,
    "retrain": lambda case: case.retrained(np.ones(40, dtype=bool)),
    "trusted": lambda case: np.tile(case.trusted.labels, 2),
    "truth": lambda case: case.truth,
}


@pytest.mark.parametrize("need", NEEDS)
def test_a_detector_sees_only_what_it_declares(need):
    assert len(NEEDS[need](case_for({need}))) == 40
    with pytest.raises(WithheldError, match=f"'{need}' without declaring it"):
        NEEDS[need](case_for(set(NEEDS) - {need}))


def test_other_views_are_withheld_too():
    view, _ = make_view(3)
    for ask in ("embed", "predict"):
        with pytest.raises(WithheldError):
            getattr(case_for({"labels"}), ask)(view)
    assert len(case_for({"embedding"}).embed(view)) == len(case_for({"predict"}).predict(view)) == 3


def test_what_costs_a_pass_over_the_rows_is_computed_once():
    case = case_for(NEEDS)
    assert case.embedding is case.embedding
    assert case.gradient is case.gradient


def test_detectors_of_one_run_share_its_embedding_and_do_not_see_what_another_wrote_into_it():
    view, _ = make_view(40)
    calls = []

    class Counted(FakeVictim):
        def embedding(self, view):
            calls.append(len(view))
            return super().embedding(view).copy()

    access = Access(Counted(), known=view)
    before = access.embedding(view).copy()
    access.embedding(view)[:] = 0
    np.testing.assert_array_equal(access.embedding(view), before)
    other = access.embedding(view.take(np.arange(10)))
    np.testing.assert_array_equal(other, before[:10])
    assert calls == [40, 10]


def test_what_the_victim_lacks_is_an_error_for_the_user():
    detector = type("D", (Detector,), {"name": "d", "requires": frozenset(NEEDS), "detect": lambda s, c: None})
    view, label = make_view(40)
    case = make_case(detector(None, None), view, label, Access(FakeVictim()), None, np.random.default_rng(0))
    with pytest.raises(BackdoorError, match=r"train\.checkpoints"):
        _ = case.checkpoints
    with pytest.raises(WithheldError, match="no trusted stays"):
        _ = case.trusted
    with pytest.raises(BackdoorError, match="cannot train"):
        case.retrained(label == 0)


def test_the_case_holds_no_truth_unless_declared():
    assert case_for({"labels"})._truth is None


def answering(scores, flagged):
    detect = lambda self, case: Detection(scores, flagged)  # noqa: E731
    return type("D", (Detector,), {"name": "odd", "requires": frozenset(), "detect": detect})(None, None)


@pytest.mark.parametrize(
    ("scores", "flagged", "message"),
    [
        (np.zeros(39), np.zeros(40, dtype=bool), "for 40 stays"),
        (np.full(40, np.nan), np.zeros(40, dtype=bool), "40 scores are NaN"),
        (np.zeros(40), np.zeros(40), "return booleans"),
    ],
)
def test_answers_that_break_the_contract_name_the_detector(scores, flagged, message):
    with pytest.raises(BackdoorError, match=f"detector odd: .*{message}"):
        run_detector(answering(scores, flagged), case_for(set()))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "answers with NoneType; return a Detection"),
        (np.zeros(40), "answers with ndarray; return a Detection"),
        (
            Detection(np.zeros(40), np.zeros(40, dtype=bool), {"x": object()}),
            "details cannot be written as JSON .*object",
        ),
        (Detection(np.zeros(40), np.zeros(40, dtype=bool), {"x": np.nan}), "details cannot be written as JSON"),
        (Detection(np.zeros(40), np.zeros(40, dtype=bool), None), "details cannot be written as JSON"),
    ],
)
def test_an_answer_of_another_kind_names_the_detector(answer, message):
    methods = {"name": "odd", "requires": frozenset(), "detect": lambda self, case: answer}
    with pytest.raises(BackdoorError, match=f"^detector odd: {message}") as error:
        run_detector(type("D", (Detector,), methods)(None, None), case_for(set()))
    assert "\n" not in str(error.value)


def judged(scores, flagged, truth, label):
    weights = cluster_bootstrap_weights(np.arange(len(truth)), 200, np.random.default_rng(0), strata=truth.astype(int))
    return judge(Detection(scores, flagged), truth, label, weights)


def test_figures_equal_an_independent_computation():
    rng = np.random.default_rng(0)
    truth = rng.random(2000) < 0.05
    label = ((rng.random(2000) < 0.1) | truth).astype(np.int8)
    scores = rng.normal(size=2000) + 1.5 * truth
    flagged = scores > 1.5
    out = judged(scores, flagged, truth, label)
    assert out["auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores))
    assert out["average_precision"]["value"] == pytest.approx(average_precision_score(truth, scores))
    assert out["recall"]["value"] == pytest.approx(flagged[truth].mean())
    assert out["precision"]["value"] == pytest.approx(truth[flagged].mean())
    assert out["fpr"]["value"] == pytest.approx(flagged[~truth].mean())
    one = label == 1
    assert out["by_label"]["1"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth[one], scores[one]))
    assert out["by_label"]["0"]["auroc"]["value"] is None
    json_text(out)


def test_nothing_flagged_misses_every_poisoned_row():
    """Reference mistake 8: nothing flagged was counted as FN = 0."""
    truth = np.arange(100) < 10
    out = judged(np.zeros(100), np.zeros(100, dtype=bool), truth, np.ones(100, dtype=np.int8))
    assert out["recall"]["value"] == 0
    assert out["fpr"]["value"] == 0
    assert out["precision"]["value"] is None
    assert out["auroc"]["value"] == 0.5


def test_a_detector_that_only_prefers_the_target_label_gains_nothing_within_it():
    rng = np.random.default_rng(0)
    truth = rng.random(3000) < 0.05
    label = ((rng.random(3000) < 0.1) | truth).astype(np.int8)
    out = judged(label + 0.001 * rng.random(3000), label == 1, truth, label)
    assert out["auroc"]["value"] > 0.9
    assert abs(out["by_label"]["1"]["auroc"]["value"] - 0.5) < 0.1


def test_without_poison_figures_that_need_it_are_null():
    truth = np.zeros(50, dtype=bool)
    out = judged(np.arange(50.0), np.arange(50) < 5, truth, np.ones(50, dtype=np.int8))
    assert out["auroc"]["value"] is None
    assert out["recall"]["value"] is None
    assert out["fpr"]["value"] == pytest.approx(0.1)
