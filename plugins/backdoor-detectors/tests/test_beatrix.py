import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from backdoor_core.contracts import Trusted
from backdoor_core.errors import BackdoorError
from backdoor_core.testing.detectors import MadeVictim
from backdoor_detectors import Beatrix
from backdoor_detectors.gram import deviations, usual_bounds

POWERS = tuple(range(1, 9))


def restated(rows, known, powers, width=10):
    """The authors' definition: a Gram matrix for each row and power, its upper triangle, bounds, deviations."""

    def gram(values, power):
        raised = values**power
        products = raised[:, :, np.newaxis] * raised[:, np.newaxis, :]
        rooted = np.sign(products) * np.abs(products) ** (1 / power)
        return rooted[:, *np.triu_indices(values.shape[1])]

    total = np.zeros(len(rows))
    for power in powers:
        usual = gram(known, power)
        median = np.median(usual, axis=0)
        mad = np.median(np.abs(usual - median), axis=0)
        low, high = median - width * mad, median + width * mad
        found = gram(rows, power)
        total += (np.maximum(low - found, 0) / np.abs(low)).sum(axis=1)
        total += (np.maximum(found - high, 0) / np.abs(high)).sum(axis=1)
    return total / (len(low) * len(powers))


def correlated(rng, n=1200, width=10, poisoned=40):
    """Clean rows whose neurons rise together; of the poison single neurons are as usual, their products are not."""
    common = rng.normal(size=(n, 1))
    activations = 3 + 0.4 * common + 0.2 * rng.normal(size=(n, width))
    truth = np.arange(n) < poisoned
    activations[truth, : width // 2] *= 3
    return activations.astype(np.float32), np.zeros(n, int), truth


@pytest.mark.parametrize("powers", [(1,), (2,), (1, 2, 3, 4), POWERS])
def test_deviations_equal_the_definition(powers):
    rng = np.random.default_rng(1)
    known, rows = rng.normal(size=(60, 4)), rng.normal(size=(600, 4)) * 4
    found = deviations(rows, usual_bounds(known, powers, 3.0), powers)
    assert found == pytest.approx(restated(rows, known, powers, 3.0), rel=1e-6)
    assert (found > 0).mean() > 0.3


def test_scores_of_a_label_equal_the_definition(detect):
    activations, labels, _ = correlated(np.random.default_rng(2), n=80, width=4, poisoned=5)
    rows = activations.astype(float)
    scores = detect(Beatrix, activations, labels, width=2).scores
    assert scores == pytest.approx(restated(rows, rows, POWERS, 2), rel=1e-6)
    negative = activations - 3
    scores = detect(Beatrix, negative, labels, width=2).scores
    assert scores == pytest.approx(restated(negative.astype(float), negative.astype(float), POWERS, 2), rel=1e-4)


def test_planted_co_activations_are_found_and_flagged(detect):
    activations, labels, truth = correlated(np.random.default_rng(3))
    result = detect(Beatrix, activations, labels, width=4)
    assert roc_auc_score(truth, result.scores) > 0.99
    assert result.flagged[~truth].mean() < 0.05
    assert result.flagged[truth].mean() > 0.5


def test_clean_labels_are_not_flagged_by_force_6(detect):
    rng = np.random.default_rng(4)
    labels = (rng.random(2000) < 0.2).astype(int)
    activations = rng.uniform(1, 2, size=(2000, 8))
    assert not detect(Beatrix, activations, labels).flagged.any()


def test_neurons_that_are_hardly_ever_active_do_not_decide_alone(detect):
    rng = np.random.default_rng(5)
    activations, labels, truth = correlated(rng)
    rare = np.zeros((1200, 3))
    rare[rng.choice(1200, 60, replace=False)] = 0.05  # far from the poison, and small beside the other neurons
    scores = detect(Beatrix, np.column_stack([activations, rare]), labels, width=4).scores
    assert roc_auc_score(truth, scores) > 0.98
    assert scores[rare[:, 0] > 0].mean() < scores[truth].mean()  # without the floor it is 20 times as large


def trusted_case(detect_with, table, activations, labels, clean, clean_labels, **options):
    view, other = table(activations), table(clean)
    victim = MadeVictim(view, np.zeros((len(view), 1), np.float32), view)
    victim.embedding = lambda shown: shown.values
    stays = Trusted(other, clean_labels)
    return detect_with(Beatrix, view, labels, victim=victim, stays=stays, trusted=True, **options)


def test_trusted_stays_give_bounds_and_threshold(detect_with, table):
    activations, labels, truth = correlated(np.random.default_rng(6), poisoned=500)
    clean, clean_labels, _ = correlated(np.random.default_rng(7), n=200, poisoned=0)
    result = trusted_case(detect_with, table, activations, labels, clean, clean_labels, width=4)
    expected = restated(activations.astype(float), clean.astype(float), (1,), 4)
    assert result.scores == pytest.approx(expected, rel=1e-6)
    assert result.flagged[truth].all()
    assert result.flagged[~truth].mean() < 0.06


def test_too_few_trusted_stays_are_an_error_of_the_user(detect_with, table):
    activations, labels, _ = correlated(np.random.default_rng(8), n=100)
    labels[:40] = 1
    with pytest.raises(BackdoorError, match=r"beatrix: 4 trusted stays have label 1.*at least 10.*detection\.trusted"):
        trusted_case(detect_with, table, activations, labels, activations[:44], (np.arange(44) < 4).astype(int))


def test_a_large_label_has_bounds_from_random_rows(detect):
    activations, labels, truth = correlated(np.random.default_rng(9))
    result = detect(Beatrix, activations, labels, width=4, reference=300)
    assert result.details["labels"]["0"]["reference"] == 300
    assert roc_auc_score(truth, result.scores) > 0.99


def test_order_names_constants_and_duplicates_do_not_matter(detect):
    rng = np.random.default_rng(10)
    activations, _, _ = correlated(rng, n=400)
    labels = (np.arange(400) % 4 == 0).astype(int)
    scores = detect(Beatrix, activations, labels, width=3).scores
    order = rng.permutation(400)
    assert detect(Beatrix, activations[order], 1 - labels[order], width=3).scores == pytest.approx(scores[order])
    twice = detect(Beatrix, np.tile(activations, (2, 1)), np.tile(labels, 2), width=3).scores
    assert twice[:400] == pytest.approx(twice[400:])
    dead = detect(Beatrix, np.column_stack([activations, np.zeros(400)]), labels, width=3).scores
    assert roc_auc_score(scores > np.median(scores), dead) > 0.99


def test_few_and_equal_rows_are_left_out_by_name(detect):
    labels = np.repeat([0, 1], [50, 9])
    facts = detect(Beatrix, np.random.default_rng(11).normal(size=(59, 3)), labels).details["labels"]
    assert facts["1"] == {"rows": 9, "skipped": "fewer than 10 rows"}
    equal = detect(Beatrix, np.ones((59, 3)), labels)
    assert equal.details["labels"]["0"]["skipped"] == "all activations are equal"
