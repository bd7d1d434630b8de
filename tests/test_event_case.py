from dataclasses import replace

import numpy as np
import pytest
import torch
from event_small import inserted, small_victim, small_view
from event_stays import CODES, PLANTED, planted, trained

from backdoor_core.contracts import Context, NoOptions
from backdoor_core.explanation.event_attribution import GROUPS
from backdoor_core.explanation.event_case import by_code, by_stay, explain_view, stay_case, there
from backdoor_core.params import ExplainParams
from backdoor_core.stages import explaining_events
from backdoor_core.stages.explaining import Drawn
from backdoor_explainers.feature_ablation import FeatureAblation, FeatureAblationOptions
from backdoor_explainers.gradient_shap import GradientShap, GradientShapOptions
from backdoor_explainers.integrated_gradients import IntegratedGradients
from backdoor_explainers.layer_integrated_gradients import LayerIntegratedGradients, LayerIntegratedGradientsOptions
from backdoor_explainers.saliency import Saliency, SaliencyOptions

PARAMS = ExplainParams(steps=64)
STAYS = planted(80, seed=1)


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("texts"))


def of(kind, options=None):
    return kind(options or NoOptions(), Context(root=None))


IG = of(IntegratedGradients)
ABLATION = of(FeatureAblation, FeatureAblationOptions())


def explained(explainer, victim, view, params=PARAMS, target=1):
    return explain_view(explainer, victim, view, target, params, np.random.default_rng(0))


def one(victim, view, row):
    batch = victim.preprocessor.batch(view).index_select(0, torch.tensor([row]))
    return stay_case(victim, batch, 1, PARAMS, np.random.default_rng(0))


def test_open_gates_give_the_stay_and_the_target_decides_the_sign(victim):
    logits = victim.logits(STAYS.view)
    for row in range(5):
        case = one(victim, STAYS.view, row)
        assert case.predict(case.inputs)[0] == pytest.approx(logits[row], abs=1e-4)
        assert case.features == np.diff(STAYS.view.offsets)[row] + 2
    batch = victim.preprocessor.batch(STAYS.view).index_select(0, torch.tensor([0]))
    other = stay_case(victim, batch, 0, PARAMS, np.random.default_rng(0))
    assert other.predict(other.inputs)[0] == pytest.approx(-logits[0], abs=1e-4)


def test_a_closed_gate_is_an_input_of_nothing(victim):
    """Closing the text of an event is the stay with the zero vector as that event's text, and so on for each part."""
    batch = victim.preprocessor.batch(STAYS.view).index_select(0, torch.tensor([2]))
    case = one(victim, STAYS.view, 2)
    event, network = 1, victim.network

    def logit(**changes):
        with torch.no_grad():
            return network(replace(batch, **changes)).item()

    def closed(group):
        gates = case.inputs.copy()
        gates[0, GROUPS.index(group) * case.features + event] = 0
        return case.predict(gates)[0]

    # The event gets a row of its own in the table of texts.
    entry = batch.entry.clone()
    entry[event] = len(batch.texts)
    types = torch.cat([batch.types, batch.types[batch.entry[[event]]]])
    texts = torch.cat([batch.texts, batch.texts[batch.entry[[event]]]])
    without = {"entry": entry, "types": types, "texts": torch.cat([batch.texts, torch.zeros(1, 768)])}
    assert closed("text") == pytest.approx(logit(**without), abs=1e-4)
    untyped = torch.cat([batch.types, torch.tensor([-1])])
    assert closed("type") == pytest.approx(logit(entry=entry, types=untyped, texts=texts), abs=1e-4)
    numbers = batch.numbers.clone()
    numbers[event, :2] = 0
    assert closed("value") == pytest.approx(logit(numbers=numbers), abs=1e-4)
    gates = case.inputs.copy()
    gates[0, case.features - 2] = 0  # age: both of its columns
    statics = batch.statics.clone()
    statics[0, :2] = 0
    assert case.predict(gates)[0] == pytest.approx(logit(statics=statics), abs=1e-4)


@pytest.mark.parametrize(
    "explainer", [IG, of(LayerIntegratedGradients, LayerIntegratedGradientsOptions())], ids=lambda e: e.name
)
def test_integrated_gradients_sum_to_what_the_events_and_columns_change(tmp_path_factory, explainer):
    # Not the narrow default: its logits reach 60 here, and what they change on the path's last bit takes more steps.
    victim = trained(tmp_path_factory.getbasetemp(), width=32, heads=2, feed_forward=64)
    view = STAYS.view.take(np.arange(12))
    # The error of the sum over the path halves with every doubling: 1.7%, 0.7% and 0.2% from 256 steps on.
    found, answer = explained(explainer, victim, view, ExplainParams(steps=1024))
    sums = np.bincount(view.stay_of_event, found.total, minlength=12) + found.statics.sum(axis=1)
    cases = [one(victim, view, row) for row in range(12)]
    change = [(c.predict(c.inputs) - c.predict(c.baselines))[0] for c in cases]
    assert sums == pytest.approx(np.array(change), rel=0.005, abs=0.02)
    assert answer.convergence["relative"] < 0.01


def test_integrated_gradients_of_gates_are_those_of_the_inputs(victim):
    """Along the straight path of the numbers and texts themselves, by a plain sum of gradients."""
    row, steps = 3, 64
    batch = victim.preprocessor.batch(STAYS.view).index_select(0, torch.tensor([row]))
    events, network = len(batch.entry), victim.network
    points, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros((events, 2))
    # One text an event, so that its gradient can be told; types are not moved here, so they must be without effect.
    batch = replace(batch, texts=batch.texts[batch.entry], types=torch.full((events,), -1), entry=torch.arange(events))
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        numbers = (batch.numbers * point).float().requires_grad_()
        texts = (batch.texts * point).float().requires_grad_()
        # The position must stay: it is of the rank in time, which a factor does not change.
        network(replace(batch, numbers=numbers, texts=texts, statics=batch.statics * float(point))).backward()
        total[:, 0] += weight * (texts.grad * batch.texts).sum(dim=1).numpy()
        total[:, 1] += weight * (numbers.grad * batch.numbers)[:, :2].sum(dim=1).numpy()
    case = stay_case(victim, batch, 1, PARAMS, np.random.default_rng(0))
    values = IG.attribute(case).values.reshape(4, -1)[:, :events].T
    assert values[:, 0] == pytest.approx(0)
    assert values[:, 1:3] == pytest.approx(total, abs=1e-3)


def test_ablation_of_an_event_is_the_loss_without_what_it_says(victim):
    view = STAYS.view.take(np.array([4]))
    found, _ = explained(ABLATION, victim, view)
    case = one(victim, view, 0)
    for event in range(len(view.code)):
        gates = case.inputs.reshape(4, -1).copy()
        gates[:, event] = 0
        lost = case.predict(case.inputs)[0] - case.predict(gates.reshape(1, -1))[0]
        assert found.total[event] == pytest.approx(lost, abs=1e-5)


@pytest.mark.parametrize("explainer", [IG, ABLATION], ids=lambda e: e.name)
def test_the_planted_event_is_the_top_attribution_where_it_occurs(victim, explainer):
    view = STAYS.view
    found, _ = explained(explainer, victim, view, ExplainParams(steps=16))
    top = []
    for row in np.flatnonzero(STAYS.label == 1):
        own = slice(view.offsets[row], view.offsets[row + 1])
        top.append(view.code[own][np.argmax(found.total[own])] == PLANTED)
    assert len(top) > 15
    assert np.mean(top) >= 0.9


@pytest.mark.parametrize(
    "explainer",
    [of(Saliency, SaliencyOptions()), of(GradientShap, GradientShapOptions())],
    ids=lambda e: e.name,
)
def test_other_explainers_answer_for_stays_of_any_length(victim, explainer):
    view = STAYS.view.take(np.arange(3)).keep(np.arange(int(STAYS.view.offsets[3])) >= STAYS.view.offsets[1])
    found, _ = explained(explainer, victim, view)
    assert found.events.shape == (len(view.code), 4)
    assert np.isfinite(found.events).all()
    assert found.statics.shape == (3, 2)


def test_a_stay_without_events_is_explained_by_its_static_columns(victim):
    view = STAYS.view.take(np.arange(1)).keep(np.zeros(int(STAYS.view.offsets[1]), dtype=bool))
    found, answer = explained(IG, victim, view)
    assert found.events.shape == (0, 4)
    assert np.abs(found.statics).sum() > 0
    assert answer.convergence["max"] < 0.01


def test_the_layout_by_stay_and_by_code():
    view = STAYS.view.take(np.arange(2))
    values = np.arange(1.0, len(view.code) + 1)
    first, second = np.diff(view.offsets)
    padded = by_stay(values, np.array([[0.5], [0.25]]), view, 12)
    assert padded[0].tolist() == [*values[:first], *[0] * (12 - first), 0.5]
    assert padded[1].tolist() == [*values[first:], *[0] * (12 - second), 0.25]
    assert there(view, 12, 1).sum(axis=1).tolist() == [first + 1, second + 1]
    coded = by_code(values, view, ("none", *CODES))
    assert coded.sum() == values.sum()
    for k, code in enumerate(CODES):
        assert coded[0, k + 1] == values[:first][view.code[:first] == CODES.index(code)].sum()


@pytest.mark.parametrize("most", [4, 64])
def test_what_slides_into_or_out_of_the_last_events_is_not_the_triggers_doing(monkeypatch, most):
    whole = small_view((3, 9, 12), seed=1)
    victim = small_victim(whole)
    victim = replace(victim, preprocessor=replace(victim.preprocessor, max_events=most))
    # A stay's number of events from the end, by which a removed or inserted one is told by hand.
    from_end = whole.offsets[1:][whole.stay_of_event] - np.arange(len(whole.code))
    gone = np.isin(from_end, [2, 6])
    with_first, _ = inserted(whole)

    def stays(triggered):
        drawn = Drawn(whole, triggered, np.arange(3), np.ones((2, 3)), 3)
        monkeypatch.setattr(explaining_events, "draw_stays", lambda study, parts: drawn)
        return explaining_events.load_event_stays(None, None, victim)

    found = stays(whole.keep(~gone))
    assert not found.touched.any()
    assert found.removed.tolist() == gone[from_end <= most].tolist()
    assert found.removed.sum() == (3 if most == 4 else 5)

    found = stays(with_first)
    assert not found.removed.any()
    first = np.flatnonzero(found.touched)
    assert first.tolist() == ([0] if most == 4 else found.triggered.offsets[:-1].tolist())
    assert (found.triggered.value[first] == 99).all()
    assert len(found.touched) == len(found.triggered.code)
    assert len(found.removed) == len(found.clean.code)
