"""The signals of models of stays, the references' fits and the poisoned stays, with models whose answers are known."""

from dataclasses import dataclass

import numpy as np
import pytest

from backdoor_core import seeds
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Audit
from backdoor_core.learning.victim import TorchVictim, Victim
from backdoor_core.privacy.halves import membership_matrix
from backdoor_core.privacy.measured import (
    Audited,
    ReferenceAnswers,
    measure,
    only,
    scores_by_model,
    scores_of,
    untrained,
    utility,
)
from backdoor_core.privacy.poisoned import poisoned_stays
from backdoor_core.privacy.references import reference_tasks
from backdoor_core.ranking import auroc
from backdoor_core.testing.views import table_view

N, M, K = 40, 12, 4
VIEW, OUTSIDE = table_view(N), table_view(M)
LABEL = np.arange(N, dtype=np.int8) % 2
STAYS = Audited(VIEW, LABEL, np.arange(N) // 2, np.arange(N) < 28, np.arange(N, dtype=np.int64))
VALIDATION = Rows(OUTSIDE, np.arange(M, dtype=np.int8) % 2)
KEPT = np.arange(N) % 5 > 0


@dataclass(frozen=True, kw_only=True)
class Told(Victim):
    """Answers by the stay's number in the view, and by `shift`."""

    preprocessor: None = None
    shift: float = 0.0

    def logits(self, view):
        return np.sin(np.asarray(view.stay_id, dtype=np.float64) + self.shift)

    def inputs(self, view):
        raise NotImplementedError

    def state(self):
        return {}

    @property
    def parameters(self):
        return 0

    @property
    def device(self):
        return "cpu"


def loss_of(logits, label):
    p = 1 / (1 + np.exp(-logits))
    return -np.log(np.where(label == 1, p, 1 - p))


@pytest.fixture(scope="module")
def answers():
    member = membership_matrix(STAYS.patients, K, np.random.default_rng(3))
    return ReferenceAnswers.of([Told(shift=k) for k in range(K)], member, VIEW, OUTSIDE)


def test_every_signal_is_of_the_model_it_is_named_after(answers):
    found = measure(STAYS, VALIDATION, Told(shift=9), answers, Told(shift=20))
    logits = Told(shift=9).logits(VIEW)
    assert np.array_equal(found.logits, logits)
    assert np.allclose(found.loss, loss_of(logits, LABEL))
    assert np.allclose(found.untrained_loss, loss_of(Told(shift=20).logits(VIEW), LABEL))
    assert np.array_equal(found.truth, STAYS.member)
    assert np.array_equal(found.groups, STAYS.patients)
    for k in range(K):
        assert np.allclose(found.references.loss[k], loss_of(Told(shift=k).logits(VIEW), LABEL))
        outside = Told(shift=k).logits(OUTSIDE)
        assert np.allclose(found.population.reference_logits[k], outside)
        assert np.allclose(found.population.reference_loss[k], loss_of(outside, VALIDATION.label))
    assert np.allclose(found.population.loss, loss_of(Told(shift=9).logits(OUTSIDE), VALIDATION.label))


def test_without_references_there_is_no_population():
    none = ReferenceAnswers.of([], np.zeros((0, N), dtype=np.bool_), VIEW, OUTSIDE)
    assert (none.logits.shape, none.population.shape, len(none)) == ((0, N), (0, M), 0)
    found = measure(STAYS, VALIDATION, Told(), none)
    assert found.references is None
    assert found.population is None
    assert found.untrained_loss is None
    assert only(found, KEPT).references is None


def test_some_of_the_stays_are_taken_of_every_signal(answers):
    whole = measure(STAYS, VALIDATION, Told(shift=9), answers, Told(shift=20))
    part = only(whole, KEPT)
    for name in ("groups", "loss", "logits", "labels", "inputs", "untrained_loss", "truth"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[KEPT], equal_nan=name == "inputs")
    for name in ("member", "loss", "logits"):
        assert np.array_equal(getattr(part.references, name), getattr(whole.references, name)[:, KEPT])
    assert part.population is whole.population


def test_the_utility_is_of_the_stays_outside(answers):
    found = measure(STAYS, VALIDATION, Told(shift=9), answers)
    assert utility(found) == pytest.approx(auroc(found.logits[28:], LABEL[28:] == 1))
    assert utility(only(found, STAYS.member | (LABEL == 1))) is None


def test_each_reference_learns_its_half_from_a_seed_of_its_own():
    member, tasks = reference_tasks(STAYS, VALIDATION, K, 5)
    assert np.array_equal(member, membership_matrix(STAYS.patients, K, seeds.generator(5, "references", 0)))
    assert len({task.seed for task in tasks}) == K
    for rows, task in zip(member, tasks, strict=True):
        assert np.array_equal(task.train.view.stay_id, VIEW.stay_id[rows])
        assert np.array_equal(task.train.label, LABEL[rows])
        assert task.fit_on is task.train.view
        assert task.validation is VALIDATION


def test_no_reference_is_no_task():
    member, tasks = reference_tasks(STAYS, VALIDATION, 0, 5)
    assert (member.shape, tasks) == ((0, N), [])


class Drawn(Audit):
    """Random numbers, and minus the loss."""

    name = "drawn"
    requires = frozenset({"loss"})

    def score(self, case):
        return case.rng.random(len(case)) - case.loss


class Sightless(Audit):
    """Random numbers, without a model."""

    name = "sightless"
    requires = frozenset({"inputs", "truth"})

    def score(self, case):
        return case.rng.random(len(case))


def make(kind):
    return kind.__new__(kind)


def test_models_are_scored_with_the_same_random_numbers(answers):
    measured = {name: measure(STAYS, VALIDATION, Told(shift=s), answers) for name, s in (("one", 1), ("two", 2))}
    found = scores_by_model(make(Drawn), measured, 7)
    noise = [found[name] + measured[name].loss for name in measured]
    assert np.allclose(noise[0], noise[1])
    assert not np.allclose(found["one"], found["two"])
    assert np.array_equal(found["two"], scores_of(make(Drawn), measured["two"], 7))
    assert not np.allclose(noise[0], scores_of(make(Drawn), measured["one"], 8) + measured["one"].loss)
    blind = scores_by_model(make(Sightless), measured, 7)
    assert np.array_equal(blind["one"], blind["two"])
    assert not np.allclose(blind["one"], noise[0])  # each audit has numbers of its own


def test_a_model_without_a_network_has_no_untrained_one():
    assert not isinstance(Told(), TorchVictim)
    assert untrained(None, Told(), 0) is None


@dataclass(frozen=True, kw_only=True)
class Knows(Told):
    """Is surer of the label 1 of the stays it knows."""

    known: frozenset = frozenset()

    def logits(self, view):
        return super().logits(view) + 9 * np.isin(view.stay_id, list(self.known))


def test_poisoned_stays_that_a_model_knows_by_heart_are_told_and_for_the_twin_they_are_not():
    met, triggered = VIEW.take(np.arange(N) < 25), VIEW.take(np.arange(N) >= 25)
    victims = {"poisoned": Knows(known=frozenset(met.stay_id.tolist())), "baseline": Told()}
    found = poisoned_stays(victims, met, triggered, np.arange(N), 1, 200, np.random.default_rng(0))
    assert (found["members"], found["nonmembers"]) == (25, 15)
    assert found["poisoned"]["value"] == 1
    logits = Told().logits(VIEW)
    assert found["baseline"]["value"] == pytest.approx(auroc(logits, np.arange(N) < 25))
    assert found["baseline"]["low"] < 0.5 < found["baseline"]["high"]
    flipped = poisoned_stays(victims, met, triggered, np.arange(N), 0, 200, np.random.default_rng(0))
    assert flipped["poisoned"]["value"] == 0
