import numpy as np
import pytest

from backdoor_core.privacy.judge import Run, judge, resamples
from backdoor_core.privacy.verdict import covers_half, verdict, widened


def figure(value, low, high):
    return {"value": value, "low": low, "high": high}


CHANCE = figure(0.5, 0.47, 0.53)


def figures(auc, few=(0.01, 0.0, 0.03), exact=(0.002, 0.03), over=None, luck=0.001):
    point = {"fpr": 0.01, **figure(*few), "clopper_pearson": list(exact), "by_luck": luck}
    return {"auc": figure(*auc), "tpr": [point], "over_blind": over}


@pytest.mark.parametrize(
    ("shown", "word", "says"),
    [
        (figures((0.8, 0.75, 0.85), (0.2, 0.1, 0.3)), "leaks", "20.0% of the members are found"),
        (figures((0.51, 0.5, 0.52)), "none shown", "does not show that there is none"),
        (figures((0.51, 0.48, 0.54), (0.1, 0.05, 0.2), (0.06, 0.15)), "leaks for a few", "not so for a few. 10.0% of"),
        (figures((0.51, 0.48, 0.54), (0.1, 0.0, 0.2), (0.06, 0.15)), "none shown", "0.510 [0.480, 0.540]"),
        (figures((0.51, 0.48, 0.54), (0.1, 0.05, 0.2), (0.009, 0.15)), "none shown", "coin"),
        (figures((0.51, 0.48, 0.54), (0.1, 0.05, 0.2), (0.06, 0.15), luck=0.03), "none shown", "coin"),
        (figures((0.51, 0.48, 0.54), (None, None, None)), "none shown", "coin"),
        (figures((0.4, 0.35, 0.45)), "below chance", "score below non-members"),
        (figures((0.8, None, None)), "withheld", "the AUC has no interval"),
        (figures((None, None, None)), "withheld", "the AUC has no interval"),
    ],
)
def test_each_rule(shown, word, says):
    found = verdict(shown, CHANCE)
    assert found.word == word
    assert says in found.text
    assert found.cautions == ()


@pytest.mark.parametrize("blind", [figure(0.56, 0.53, 0.59), figure(0.44, 0.41, 0.47), figure(0.5, None, None)])
def test_a_blind_control_off_one_half_withholds_every_verdict(blind):
    lead = figure(0.2, 0.1, 0.3)
    for auc in ((0.9, 0.85, 0.95), (0.5, 0.4, 0.6), (0.1, 0.05, 0.2)):
        found = verdict(figures(auc, over=lead), blind)
        assert found.word == "withheld"
        assert "differ in themselves" in found.text
        assert "less the control's is 0.200 [0.100, 0.300]" in found.text


def test_no_blind_control_no_verdict():
    assert verdict(figures((0.9, 0.85, 0.95)), None).word == "withheld"


def test_an_untrained_model_off_one_half_and_an_unsure_lead_make_cautions():
    shown = figures((0.8, 0.75, 0.85), over=figure(0.02, -0.01, 0.05))
    found = verdict(shown, CHANCE, untrained=figure(0.6, 0.55, 0.65))
    assert found.word == "leaks"
    assert len(found.cautions) == 2
    assert verdict(figures((0.8, 0.75, 0.85), over=figure(0.3, 0.2, 0.4)), CHANCE, untrained=CHANCE).cautions == ()


def test_the_blind_interval_is_widened_for_its_cross_validation():
    assert widened(figure(0.56, 0.52, 0.6)) == pytest.approx(figure(0.56, 0.5, 0.62))
    assert widened(figure(0.97, 0.95, 0.995), 2) == pytest.approx(figure(0.97, 0.97 - 0.02 * 3**0.5, 1.0))
    assert widened(figure(0.5, None, None)) == figure(0.5, None, None)
    assert verdict(figures((0.8, 0.75, 0.85)), figure(0.55, 0.51, 0.59)).word == "leaks"


def test_covering_includes_the_ends():
    assert covers_half(figure(0.55, 0.5, 0.6))
    assert not covers_half(figure(0.55, 0.501, 0.6))


def test_judged_figures_go_straight_into_a_verdict():
    rng = np.random.default_rng(0)
    member = np.arange(2000) % 2 == 0
    noise = Run(rng.normal(size=2000), member, np.arange(2000))
    few = Run(rng.normal(size=2000) + 9 * (member & (rng.random(2000) < 0.06)), member, np.arange(2000))
    leak = Run(rng.normal(size=2000) + member, member, np.arange(2000))
    weights = resamples([noise], 200, rng)
    blind = judge([noise], weights)["auc"]
    words = [verdict(judge([run], weights, blind=[noise]), blind).word for run in (noise, leak)]
    assert words == ["none shown", "leaks"]
    assert verdict(judge([leak], weights), judge([leak], weights)["auc"]).word == "withheld"
    assert verdict(judge([few], weights), blind).word in ("leaks", "leaks for a few")


def test_scores_by_lot_hardly_ever_leak_for_a_few():
    """Of 100 non-members the threshold lies where luck puts it: the intervals alone see a leak in a sixth of these."""
    member = np.arange(800) < 700
    words = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        run = Run(rng.normal(size=800), member, np.arange(800))
        words.append(verdict(judge([run], resamples([run], 100, rng)), CHANCE).word)
    assert words.count("leaks for a few") <= 8
