from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Context, SeriesView
from backdoor_core.detection.calibrate import Scored, p_values
from backdoor_core.errors import BackdoorError
from backdoor_detectors.saliency import Saliency, concentration, feature_attribution


def restated(inputs, gradient, labels, features, k):
    """Gradient x (input - median of the label), channel by channel."""
    scores = []
    for row in range(len(inputs)):
        reference = np.nanmedian(inputs[labels == labels[row]].astype(float), axis=0)
        by_feature = [0.0] * features
        for place in np.ndindex(inputs.shape[1:]):
            term = abs(float(gradient[row][place]) * (float(inputs[row][place]) - reference[place]))
            by_feature[place[-1] % features] += 0.0 if np.isnan(term) else term
        total = sum(by_feature)
        scores.append(sum(sorted(by_feature)[-k:]) / total if total else 0.0)
    return np.array(scores)


@pytest.mark.parametrize("shape", [(12,), (4, 12)])
@pytest.mark.parametrize("k", [1, 3])
def test_concentration_equals_a_plain_restatement(detect_with, table, shape, k):
    # Three blocks of four features: values, indicators, hours.
    rng = np.random.default_rng(1)
    labels = np.arange(30) % 3 // 2
    inputs = rng.normal(size=(30, *shape)).astype(np.float32)
    inputs[rng.random(inputs.shape) < 0.1] = np.nan
    gradient = rng.normal(size=inputs.shape).astype(np.float32)
    view = table(np.zeros((30, 4)))
    if len(shape) == 2:
        view = SeriesView(view.stay_id, view.features, np.zeros((30, 4, 4), np.float32), np.ones((30, 4, 4), np.uint16))
    result = detect_with(Saliency, view, labels, k=k, inputs=lambda _: inputs, gradient=lambda _: gradient)
    assert result.scores == pytest.approx(restated(inputs, gradient, labels, 4, k), rel=1e-9)


def test_a_row_that_hangs_on_one_feature_ranks_first(detect_with, table):
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(1000, 20)).astype(np.float32)
    truth = np.arange(1000) < 20
    inputs[truth, 4] = 30
    gradient = np.tile(rng.uniform(0.5, 1, 20), (1000, 1)).astype(np.float32)
    view, labels = table(np.zeros((1000, 20))), np.arange(1000) % 2
    result = detect_with(Saliency, view, labels, inputs=lambda _: inputs, gradient=lambda _: gradient)
    assert roc_auc_score(truth, result.scores) > 0.999
    assert result.flagged[truth].all()
    assert result.flagged[~truth].mean() < 0.03


def test_channels_of_a_feature_count_together(detect_with, table):
    # The same attribution on value and indicator of one feature, or on two features.
    gradient = np.ones((5, 6), np.float32)
    inputs = np.zeros((5, 6), np.float32)
    inputs[3, [0, 3]] = 1
    inputs[4, [0, 1]] = 1
    call = {"inputs": lambda _: inputs, "gradient": lambda _: gradient}
    scores = detect_with(Saliency, table(np.zeros((5, 3))), np.zeros(5, int), k=1, **call).scores
    assert list(scores) == [0, 0, 0, 1, 0.5]


def test_magnitude_is_the_norm_and_needs_no_inputs(detect_with, table):
    gradient = np.random.default_rng(3).normal(size=(40, 3, 5)).astype(np.float32)
    result = detect_with(
        Saliency, table(np.zeros((40, 5))), np.zeros(40, int), score="magnitude", gradient=lambda _: gradient
    )
    assert result.scores == pytest.approx([np.linalg.norm(row.astype(float)) for row in gradient])
    made = Saliency(Saliency.Options(score="magnitude"), Context(Path()))
    assert made.requires == {"labels", "gradient"}
    assert Saliency(Saliency.Options(), Context(Path())).requires == {"labels", "gradient", "inputs"}


def test_shares_of_two_models_are_on_one_scale_and_norms_are_not(detect_with, table):
    """Ten times the weights: ten times every norm, which must not put the rows above those of null runs."""
    rng = np.random.default_rng(6)
    labels, view = np.zeros(60, int), table(rng.normal(size=(60, 5)))
    inputs = rng.normal(size=(60, 5)).astype(np.float32)
    for score, absolute in (("concentration", True), ("magnitude", False)):
        detector = Saliency(Saliency.Options(score=score), Context(Path()))
        assert detector.absolute is absolute
        scores = [
            detect_with(
                Saliency, view, labels, score=score, k=2, inputs=lambda _: inputs, gradient=lambda _, g=g: g
            ).scores
            for gradient in [rng.normal(size=(60, 5)).astype(np.float32)]
            for g in (10 * gradient, gradient, gradient)
        ]
        run, *nulls = (Scored(found, labels) for found in scores)
        assert p_values(run, nulls, detector.absolute).mean() == pytest.approx(0.5, abs=0.02)


def test_batches_do_not_matter_9(monkeypatch):
    rng = np.random.default_rng(4)
    inputs, gradient = rng.normal(size=(2, 50, 8)).astype(np.float32)
    whole = feature_attribution(inputs, gradient, 4)
    monkeypatch.setattr("backdoor_detectors.saliency.VALUES_AT_ONCE", 24)
    assert (feature_attribution(inputs, gradient, 4) == whole).all()


def test_no_attribution_has_no_concentration():
    assert list(concentration(np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 3.0]]), 1)) == [0, 1, 0.75]


def test_too_few_features_are_told(detect_with, table):
    inputs = np.random.default_rng(5).normal(size=(20, 2)).astype(np.float32)
    call = {"inputs": lambda _: inputs, "gradient": lambda _: np.ones_like(inputs)}
    result = detect_with(Saliency, table(inputs), np.zeros(20, int), **call)
    assert "2 features" in result.details["skipped"]
    assert not result.flagged.any()


def test_gradients_that_are_not_finite_are_an_error_of_the_user(detect_with, table):
    gradient = np.zeros((30, 4), np.float32)
    gradient[3, 2] = np.inf
    call = {"inputs": lambda _: gradient, "gradient": lambda _: gradient}
    with pytest.raises(BackdoorError, match=r"saliency.*not finite for 1 of 30"):
        detect_with(Saliency, table(np.zeros((30, 4))), np.zeros(30, int), **call)


def test_the_gradient_of_the_bench_is_captums_saliency(detect_with):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    import torch

    from backdoor_core.cohort.preprocess import fit_preprocessor
    from backdoor_core.learning.victim import TorchVictim
    from backdoor_core.params import PreprocessParams
    from backdoor_core.testing.views import table_view
    from backdoor_models.mlp import MLP

    view = table_view(60)
    preprocessor = fit_preprocessor(view, PreprocessParams())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP(MLP.Options(hidden=(16, 8)), Context(Path())).build(preprocessor.spec).eval()
    victim = TorchVictim(preprocessor=preprocessor, network=network)
    inputs = torch.from_numpy(victim.inputs(view)).requires_grad_()
    saliency = attr.Saliency(network).attribute(inputs).numpy()
    assert np.abs(victim.gradient(view)) == pytest.approx(saliency, rel=1e-5, abs=1e-8)
    result = detect_with(Saliency, view, np.arange(60) % 2, score="magnitude", victim=victim)
    assert result.scores == pytest.approx(np.linalg.norm(saliency, axis=1), rel=1e-5)
