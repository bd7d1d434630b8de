"""What is said of planted leaks."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from backdoor_core.contracts import Context, Tokens
from backdoor_core.language.leak import Model, audit_models, band, compare, learning, utility
from backdoor_core.plugins import discover
from backdoor_core.privacy.judge import Run, resamples

PATIENTS = np.arange(400) * 3 // 4
WORDS = np.array(["fever", "cough", "rash", "pain", "calm", "edema", "nausea", "WBC"])


def planted(shift, seed, epochs=3):
    """A model whose members' NLL is lower by `shift` standard deviations."""
    rng = np.random.default_rng(seed)
    member = np.isin(PATIENTS, rng.permutation(300)[:210])
    lengths = rng.integers(5, 20, size=400)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    loss = 2 + 0.1 * (rng.normal(size=400) - shift * member)
    log_prob = -np.repeat(loss, lengths)
    nll = np.stack([3 + 0.1 * rng.normal(size=400), *[loss] * epochs])
    return Model(member, Tokens(offsets, log_prob, log_prob - 1, np.ones_like(log_prob)), nll, epochs)


@pytest.fixture(scope="module")
def audits(tmp_path_factory):
    catalog, context = discover(), Context(tmp_path_factory.mktemp("audits"))

    def made(name, **options):
        return catalog.get("audit", name).component(catalog.resolve("audit", name, options), context)

    return [made("loss_threshold"), made("blind", source="texts"), made("untrained")]


@pytest.fixture(scope="module")
def compared(audits):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 12)) for _ in range(400)]
    recipes = {
        name: audit_models(audits, [planted(shift, seed) for seed in range(2)], PATIENTS, texts, 7)
        for name, shift in (("baseline", 1.5), ("regularized", 0.5))
    }
    weights = resamples(recipes["baseline"].runs("blind", PATIENTS), 200, np.random.default_rng(1))
    return compare(recipes, frozenset({"blind", "untrained"}), PATIENTS, weights)


def test_planted_leaks_are_found_and_told_apart(compared):
    for recipe, shift in (("baseline", 1.5), ("regularized", 0.5)):
        audit = compared["recipes"][recipe]["audits"]["loss_threshold"]
        # Two Gaussians apart by d have an AUC of Phi(d / sqrt 2).
        assert audit["auc"]["low"] < norm.cdf(shift / np.sqrt(2)) < audit["auc"]["high"]
        assert audit["verdict"]["word"] == "leaks"
        assert audit["verdict"]["cautions"] == []
        assert [point["epoch"] for point in compared["recipes"][recipe]["curve"]] == [0, 1, 2, 3]
    (pair,) = compared["differences"]
    assert (pair["of"], pair["less"]) == ("baseline", "regularized")
    assert pair["auc"]["loss_threshold"]["low"] > 0.1
    assert set(pair["auc"]) == {"loss_threshold"}


def test_controls_are_at_chance_and_get_no_verdict(compared):
    for found in compared["recipes"].values():
        for name in ("blind", "untrained"):
            control = found["audits"][name]
            assert control["control"]
            assert control["verdict"] is None
            assert control["auc"]["low"] < 0.5 < control["auc"]["high"]
        assert found["audits"]["blind"]["widened"]["low"] < found["audits"]["blind"]["auc"]["low"]
    blind = [found["audits"]["blind"] for found in compared["recipes"].values()]
    assert blind[0] == blind[1]


def test_the_verdict_is_withheld_where_words_tell_members(audits):
    models = [planted(1.5, seed) for seed in range(2)]
    rng = np.random.default_rng(0)
    # Members of the first seed have a word of their own; those of the second share it often enough.
    texts = [" ".join(rng.choice(WORDS, 12)) + (" transferred" if inside else "") for inside in models[0].member]
    audited = audit_models(audits, models, PATIENTS, texts, 7)
    weights = resamples(audited.runs("blind", PATIENTS), 200, np.random.default_rng(1))
    found = compare({"baseline": audited}, frozenset({"blind", "untrained"}), PATIENTS, weights)
    assert found["recipes"]["baseline"]["audits"]["loss_threshold"]["verdict"]["word"] == "withheld"
    assert found["differences"] == []


def test_use_is_that_of_the_notes():
    models = [planted(1.0, seed) for seed in range(2)]
    runs = [Run(-m.loss, m.member, PATIENTS) for m in models]
    weights = resamples(runs, 200, np.random.default_rng(0))
    found = utility(models, weights)
    inside = np.concatenate([m.loss[m.member] for m in models])
    outside = np.concatenate([m.loss[~m.member] for m in models])
    assert found["held_out_nll"]["value"] == pytest.approx(outside.mean())
    assert found["perplexity"]["value"] == pytest.approx(np.exp(outside.mean()))
    assert found["gap"]["value"] == pytest.approx(outside.mean() - inside.mean())
    assert found["gap"]["low"] > 0.05
    points = band(runs, weights)
    assert points[-1] == {"fpr": 1.0, "value": 1.0, "low": 1.0, "high": 1.0}
    assert all(a["value"] <= b["value"] for a, b in itertools.pairwise(points))


def test_epochs_that_some_seeds_did_not_reach_are_of_the_others():
    models = [planted(1.0, 0, epochs=2), planted(1.0, 1, epochs=4)]
    weights = resamples([Run(-m.loss, m.member, PATIENTS) for m in models], 100, np.random.default_rng(0))
    found = learning(models, PATIENTS, weights)
    assert [point["seeds"] for point in found] == [2, 2, 2, 1, 1]
    assert found[4]["member_nll"] == pytest.approx(models[1].loss[models[1].member].mean())
