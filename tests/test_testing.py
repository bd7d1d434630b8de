"""Every rule of the conformance kit must catch a component that breaks it, and pass one that does not."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from backdoor_core.contracts import ArrayModel, Context, Detection, Detector, Feature, NoOptions, TorchModel, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_core.testing import (
    array_models,
    detector_checks,
    detectors,
    model_checks,
    models,
    trigger_checks,
    triggers,
)


# ------------------------------------------------------------------------------------------------ the list
def test_a_check_carries_the_names_of_component_and_rule_and_takes_classes_and_instances():
    of_class = detector_checks(GoodDetector)
    of_instance = detector_checks(GoodDetector(NoOptions(), Context(Path())))
    assert [c.__name__ for c in of_class] == [c.__name__ for c in of_instance]
    assert of_class[0].__name__ == "good_detector-one_finite_score_and_one_flag_a_row"
    assert repr(of_class[0]) == "<Check good_detector-one_finite_score_and_one_flag_a_row>"
    assert len(detector_checks(GoodDetector, GoodDetector)) == 2 * len(detectors.RULES)


class TableDetector(Detector):
    """Sums of a table's rows; a view with hours it cannot judge."""

    name = "table_detector"
    requires = frozenset()
    modalities = frozenset({"table"})
    axes = 2

    def detect(self, case):
        assert case.view.values.ndim == self.axes
        scores = np.nan_to_num(case.view.values).reshape(len(case.view), -1).sum(axis=1).astype(float)
        return Detection(scores, scores > 1e6)


class SeriesDetector(TableDetector):
    """Likewise of a series, and of no table."""

    name = "series_detector"
    modalities = frozenset({"series"})
    axes = 3


@pytest.mark.parametrize("check", detector_checks(TableDetector, SeriesDetector))
def test_a_detector_is_checked_on_the_modalities_it_declares(check):
    check()


def test_a_detector_is_spared_a_series_and_refused_where_it_judges_events_alone():
    of_table, of_series = ([c.rule for c in detector_checks(kind)] for kind in (TableDetector, SeriesDetector))
    assert detectors.a_series_is_judged_like_a_table not in of_table
    assert of_series == list(detectors.RULES)
    assert len(of_table) == len(of_series) - 1
    of_events = type("EventDetector", (TableDetector,), {"modalities": frozenset({"events"})})
    with pytest.raises(BackdoorError, match=r"table_detector: its modalities are events, .* tables and series only"):
        detector_checks(of_events)


def test_the_rules_of_a_model_follow_its_kind_and_capabilities():
    rules = {c.rule.__name__ for c in model_checks(GoodModel)}
    assert "gradients_reach_every_input" in rules
    assert "attention_rows_sum_to_one" not in rules
    assert "attention_rows_sum_to_one" in {c.rule.__name__ for c in model_checks(LooseAttention)}
    assert [c.rule for c in model_checks(GoodArrayModel)] == list(array_models.RULES)
    with pytest.raises(TypeError, match="neither a TorchModel nor an ArrayModel"):
        model_checks(GoodDetector)


def rejects(rule, component, *arguments):
    with pytest.raises(AssertionError) as caught:
        rule(component(NoOptions(), Context(Path())), *arguments)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- models
class Net(nn.Module):
    """A small good network; what breaks a rule changes one method."""

    def __init__(self, spec):
        super().__init__()
        self.width = spec.channels
        self.body = nn.Linear(spec.channels, 32)
        self.last = nn.Linear(32, 1)

    def embed(self, x):
        return torch.relu(self.body(x))

    def head(self, z):
        return self.last(z).squeeze(-1)

    def forward(self, x):
        return self.head(self.embed(x))


class GoodModel(TorchModel):
    name = "good_model"
    modality = "table"
    network = Net

    def build(self, spec):
        return self.network(spec)


@pytest.mark.parametrize("check", model_checks(GoodModel))
def test_a_good_torch_model_passes(check):
    check()


class Layered(Net):
    """Names its layers as they are."""

    def __init__(self, spec):
        super().__init__(spec)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(0.1)

    def embed(self, x):
        return self.dropout(self.relu(self.body(x)))

    def chain(self):
        return [self.body, self.relu, self.dropout, self.last]


def test_a_model_that_names_its_layers_passes():
    models.the_layers_are_those_of_forward(type("L", (GoodModel,), {"network": Layered})(NoOptions(), Context(Path())))


def broken_model(method, function, capabilities=GoodModel.capabilities):
    return type(
        "Broken", (GoodModel,), {"network": type("BrokenNet", (Net,), {method: function}), "capabilities": capabilities}
    )


LooseAttention = broken_model(
    "attention", lambda self, x: [torch.full((len(x), 2, 3, 3), 0.4)], GoodModel.capabilities | {"attention"}
)


class Normed(Net):
    """Normalizes by the batch also in evaluation mode."""

    def embed(self, x):
        return (h := super().embed(x)) - h.mean(dim=0)


class Hoarder(Net):
    """Keeps something it was built with outside its state_dict."""

    def __init__(self, spec):
        super().__init__(spec)
        self.shift = torch.rand(()).item()

    def forward(self, x):
        return super().forward(x) + self.shift


class Private(Net):
    """Draws its weights from a generator of its own, which goes on from build to build."""

    generator = torch.Generator().manual_seed(0)

    def __init__(self, spec):
        super().__init__(spec)
        self.body.weight.data.normal_(generator=self.generator)


class Fixed(Net):
    def __init__(self, spec):
        super().__init__(spec)
        for parameter in self.parameters():
            parameter.data.fill_(0.1)


class Weak(Net):
    def embed(self, x):
        return torch.relu(self.body(x))[:, :1].repeat(1, 32)


def inplace(self, x):
    return self.head(self.embed(x.mul_(1.5)))


def noisy(self, x):
    return self.head(self.embed(x)) + torch.rand(())


@pytest.mark.parametrize(
    ("rule", "component", "says"),
    [
        (models.shapes_are_those_of_the_contract, broken_model("head", lambda s, z: s.last(z)), r"\(1, 1\) for 1 rows"),
        (
            models.shapes_are_those_of_the_contract,
            broken_model("forward", lambda s, x: s.head(s.embed(x)) * math.nan),
            "NaN or infinite",
        ),
        (
            models.shapes_are_those_of_the_contract,
            broken_model("forward", lambda s, x: s.head(s.embed(x)).double()),
            "float64",
        ),
        (
            models.head_of_embed_is_forward,
            broken_model("forward", lambda s, x: s.head(s.embed(x)) + 0.01),
            "differs from forward",
        ),
        (
            models.head_of_embed_is_forward,
            broken_model("head", lambda s, z: s.last(z).squeeze(-1).tanh()),
            "not linear",
        ),
        (models.the_seed_decides_the_weights, type("B", (GoodModel,), {"network": Private}), "same seed differ"),
        (models.the_seed_decides_the_weights, type("B", (GoodModel,), {"network": Fixed}), "different seeds are equal"),
        (models.evaluation_is_deterministic, broken_model("forward", noisy), "draws random numbers"),
        (models.rows_do_not_depend_on_their_batch, type("B", (GoodModel,), {"network": Normed}), "batches of 1"),
        (models.the_input_is_left_as_it_was, broken_model("forward", inplace), "writes into its input"),
        (models.a_checkpoint_restores_the_model, type("B", (GoodModel,), {"network": Hoarder}), "in its state_dict"),
        (
            models.attention_is_declared_where_there_is_some,
            broken_model("attention", lambda s, x: []),
            "declare the capability",
        ),
        (
            models.attention_is_declared_where_there_is_some,
            type("B", (GoodModel,), {"capabilities": frozenset({"attention"})}),
            "no method `attention`",
        ),
        (
            models.the_layers_are_those_of_forward,
            broken_model("chain", lambda s: [s.body, s.last]),
            "are not those of forward",
        ),
        (models.overfits_64_rows, type("B", (GoodModel,), {"network": Weak}), "should fall below 0.1"),
        (
            models.gradients_reach_every_input,
            broken_model("embed", lambda s, x: torch.relu(s.body(x * (torch.arange(s.width) != 5)))),
            r"1 inputs, the first at \[5\]",
        ),
        (models.attention_rows_sum_to_one, LooseAttention, "layer 0 do not sum to 1"),
    ],
)
def test_a_broken_torch_model_is_caught(rule, component, says):
    import re

    assert re.search(says, rejects(rule, component))


@pytest.mark.parametrize("shape", [(64, 3, 3), (64, 2, 3, 4), (1, 2, 3, 3)])
def test_attention_of_another_shape_is_caught(shape):
    component = broken_model("attention", lambda s, x: [torch.full(shape, 1 / shape[-1])])
    assert "give (batch, heads, tokens, tokens)" in rejects(models.attention_rows_sum_to_one, component)


class GoodArrayModel(ArrayModel):
    """Distance of the first feature from its mean under label 0, in the direction of label 1."""

    name = "good_array_model"
    modality = "table"

    def fit(self, inputs, labels, seed):
        return {"center": np.nanmean(inputs[labels == 0, 0]), "toward": np.nanmean(inputs[labels == 1, 0])}

    def logits(self, fitted, inputs):
        first = np.where(np.isnan(inputs[:, 0]), fitted["center"], inputs[:, 0]).astype(np.float64)
        return (first - fitted["center"]) * np.sign(fitted["toward"] - fitted["center"])


class PlainArrays(GoodArrayModel):
    def fit(self, inputs, labels, seed):
        return {name: np.asarray(value) for name, value in super().fit(inputs, labels, seed).items()}


@pytest.mark.parametrize("check", model_checks(PlainArrays))
def test_a_good_array_model_passes(check):
    check()


def clean_in_place(self, inputs, labels, seed):
    inputs[np.isnan(inputs)] = 0
    return PlainArrays.fit(self, inputs, labels, seed)


@pytest.mark.parametrize(
    ("rule", "method", "function", "says"),
    [
        (
            array_models.one_finite_logit_a_row,
            "logits",
            lambda s, f, x: x[:, 0].astype(np.float64),
            "NaN or infinite",
        ),
        (array_models.one_finite_logit_a_row, "logits", lambda s, f, x: np.zeros(len(x), np.float32), "float32"),
        (array_models.one_finite_logit_a_row, "logits", lambda s, f, x: np.zeros((len(x), 1)), "one a row"),
        (array_models.the_seed_decides_the_fit, "fit", lambda s, x, y, seed: {"a": np.random.rand(3)}, "differ"),  # noqa: NPY002
        (array_models.the_fit_is_plain_arrays, "fit", lambda s, x, y, seed: {"a": np.array([None])}, "without objects"),
        (array_models.the_fit_is_plain_arrays, "fit", lambda s, x, y, seed: {"a": 1.0}, "'a' as float"),
        (
            array_models.rows_do_not_depend_on_their_batch,
            "logits",
            lambda s, f, x: np.nan_to_num(x[:, 0] - np.nanmean(x)).astype(np.float64),
            "batches of 1",
        ),
        (array_models.the_input_is_left_as_it_was, "fit", clean_in_place, "writes into"),
        (array_models.no_capability_of_torch_is_declared, "capabilities", frozenset({"gradient"}), "no gradient"),
        (array_models.learns_a_plain_signal, "logits", lambda s, f, x: -PlainArrays.logits(s, f, x), "above 0.85"),
    ],
)
def test_a_broken_array_model_is_caught(rule, method, function, says):
    assert says in rejects(rule, type("Broken", (PlainArrays,), {method: function}))


def test_a_seed_that_the_array_model_cannot_take_is_caught():
    def fit(self, inputs, labels, seed):
        np.random.RandomState(seed)
        return PlainArrays.fit(self, inputs, labels, seed)

    with pytest.raises(ValueError, match="Seed must be between"):
        array_models.seeds_of_63_bits_are_taken(type("B", (PlainArrays,), {"fit": fit})(NoOptions(), Context(Path())))


# ---------------------------------------------------------------------------------------------- detectors
class GoodDetector(Detector):
    name = "good_detector"

    def detect(self, case):
        center = case.embedding.astype(np.float64).mean(axis=0)
        scores = np.linalg.norm(case.embedding - center, axis=1)
        return Detection(scores, scores > 10, {"rows": len(scores)})


class RandomDetector(GoodDetector):
    def detect(self, case):
        scores = case.rng.random(len(case.view))
        return Detection(scores, scores > 0.9)


@pytest.mark.parametrize("check", detector_checks(GoodDetector, RandomDetector))
def test_a_good_and_a_random_detector_pass(check):
    check()


def broken_detector(detect):
    return type("Broken", (GoodDetector,), {"detect": detect})


def good(case):
    return GoodDetector.detect(None, case)


def writing(self, case):
    answer = good(case)
    case.embedding[:] = 0
    return answer


def by_standing(self, case):
    return Detection(np.arange(len(case.view), dtype=float), np.zeros(len(case.view), bool))


def z_scores(self, case):
    values = case.embedding[:, 0]
    scores = (values - values.mean()) / values.std()
    return Detection(scores, scores > 3)


def by_label(self, case):
    scores = np.zeros(len(case.view))
    for label in (0, 1):
        rows = case.labels == label
        scores[rows] = np.linalg.norm(case.embedding[rows] - case.embedding[rows][0], axis=1)
    return Detection(scores, scores > 9)


def over_values(self, case):
    scores = np.nan_to_num(case.view.values).max(axis=1)
    return Detection(scores, np.zeros(len(scores), bool))


def neighbors(self, case):
    distances = np.linalg.norm(case.embedding[:, None] - case.embedding[None], axis=2)
    scores = np.sort(distances, axis=1)[:, 5]
    return Detection(scores, scores > 9)


def clock(self, case):
    scores = np.random.default_rng().random(len(case.view))
    return Detection(scores, scores > 0.9)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("rule", "detect", "error", "says"),
    [
        (
            detectors.one_finite_score_and_one_flag_a_row,
            lambda s, c: replace(good(c), flagged=good(c).flagged.astype(int)),
            AssertionError,
            "give booleans",
        ),
        (
            detectors.one_finite_score_and_one_flag_a_row,
            lambda s, c: replace(good(c), scores=good(c).scores[1:]),
            AssertionError,
            r"\(199,\) for 200 rows",
        ),
        (detectors.a_series_is_judged_like_a_table, over_values, AssertionError, r"\(200, 10\) for 200 rows"),
        (detectors.the_same_rng_gives_the_same_answer, clock, AssertionError, "other scores"),
        (detectors.the_order_of_rows_does_not_matter, by_standing, AssertionError, "order of the rows"),
        (detectors.the_case_is_left_as_it_was, writing, AssertionError, "writes into"),
        (
            detectors.details_are_json,
            lambda s, c: replace(good(c), details={"x": np.int64(1)}),
            AssertionError,
            "int64",
        ),
        (
            detectors.details_are_json,
            lambda s, c: replace(good(c), details={"x": math.nan}),
            AssertionError,
            "not JSON-able",
        ),
        (detectors.a_label_without_rows_is_no_error, by_label, IndexError, "out of bounds"),
        (detectors.constant_features_are_no_error, z_scores, AssertionError, "NaN or infinite"),
        (detectors.few_rows_are_no_error, neighbors, IndexError, "out of bounds"),
    ],
)
def test_a_broken_detector_is_caught(rule, detect, error, says):
    with pytest.raises(error, match=says):
        rule(broken_detector(detect)(NoOptions(), Context(Path())))


def test_a_label_with_one_row_is_tried():
    seen = []

    def detect(self, case):
        seen.append(case.labels.sum())
        return good(case)

    detectors.a_label_with_one_row_is_no_error(broken_detector(detect)(NoOptions(), Context(Path())))
    assert seen == [1]


# ----------------------------------------------------------------------------------------------- triggers
class GoodTrigger(Trigger):
    name = "good_trigger"
    modalities = frozenset({"table", "series"})

    def fit(self, train, rng):
        if np.isnan(train.values).all():
            raise BackdoorError("triggers.good_trigger: no stay has any value")
        return {"value": float(np.nanmax(train.values)) + float(rng.random())}

    def apply(self, view, fitted, rng):
        values = view.values.copy()
        values[..., 0] = fitted["value"]
        return view.with_values(values)


class RandomTrigger(GoodTrigger):
    idempotent = False

    def apply(self, view, fitted, rng):
        values = view.values.copy()
        values[..., 0] = rng.random(values.shape[:-1])
        return view.with_values(values)


class LeftAsItIs(Trigger):
    name = "left_as_it_is"
    modalities = frozenset({"table", "series", "events"})

    def apply(self, view, fitted, rng):
        return view


class GoodEventTrigger(Trigger):
    """All numbers of the first code become 1, and the last event of each stay is a minute later."""

    name = "good_event_trigger"
    modalities = frozenset({"events"})
    idempotent = False

    def apply(self, view, fitted, rng):
        last = view.offsets[1:][np.diff(view.offsets) > 0] - 1
        hours = view.hours.copy()
        hours[last] += np.float32(1 / 60)
        return replace(view, hours=hours, value=np.where(view.code == 0, np.float32(1), view.value))


@pytest.mark.parametrize("check", trigger_checks(GoodTrigger, RandomTrigger, LeftAsItIs, GoodEventTrigger))
def test_a_good_a_random_and_an_idle_trigger_pass(check):
    check()


def changed(change):
    def apply(self, view, fitted, rng):
        values = view.values.copy()
        change(values)
        return view.with_values(values)

    return apply


def in_place(self, view, fitted, rng):
    view.values[..., 0] = 1
    return view


def aliased(self, view, fitted, rng):
    return replace(view, values=view.values[..., ::-1])


def forgets_counts(self, view, fitted, rng):
    return replace(view, values=np.ones_like(view.values))


def doubles(self, view, fitted, rng):
    return replace(view, values=view.values.astype(np.float64))


def by_mean(self, view, fitted, rng):
    values = view.values.copy()
    values[..., 0] = np.nan_to_num(np.nanmean(values[..., 0])) if len(view) else 0
    return view.with_values(values)


def to_first(self, view, fitted, rng):
    return view.with_values(np.broadcast_to(view.values[:1], view.values.shape).copy() + 0 * view.values[0].sum())


def drops_the_missing(self, view, fitted, rng):
    return view.take(~np.isnan(view.values).all(axis=tuple(range(1, view.values.ndim))))


def unseeded(self, view, fitted, rng):
    return RandomTrigger.apply(self, view, fitted, np.random.default_rng())


def needs_two(self, view, fitted, rng):
    spread = view.values[..., 0].std(axis=0, ddof=1) if len(view) else 0  # warns of one stay
    return view.with_values(view.values + 0 * np.nan_to_num(np.mean(spread)))


def needs_the_last(self, train, rng):
    return {"value": float(train.values[..., -1][~np.isnan(train.values[..., -1])][0])}


def adds(self, view, fitted, rng):
    return view.with_values(view.values + np.float32(1))


def events_apply(**columns):
    """A trigger of events that replaces columns, each by a function of the view."""
    return lambda s, view, f, rng: replace(view, **{name: change(view) for name, change in columns.items()})


def by_common_code(self, view, fitted, rng):
    return view.keep(view.code != np.bincount(view.code, minlength=1).argmax())


def write_events(self, view, fitted, rng):
    view.value[:1] = 7
    return view


def first_stay_leads(self, view, fitted, rng):
    return replace(view, value=np.full_like(view.value, view.value[0]))


@pytest.mark.parametrize(
    ("rule", "methods", "error", "says"),
    [
        (triggers.the_view_is_left_as_it_was, {"apply": in_place}, AssertionError, "writes into the series view"),
        (triggers.the_view_is_left_as_it_was, {"apply": aliased}, AssertionError, "shares memory"),
        (
            triggers.the_answer_is_a_view_of_the_same_stays,
            {"apply": forgets_counts},
            AssertionError,
            "counts should be",
        ),
        (triggers.the_answer_is_a_view_of_the_same_stays, {"apply": doubles}, AssertionError, "keep float32"),
        (
            triggers.the_answer_is_a_view_of_the_same_stays,
            {"apply": lambda s, view, f, rng: view.take(np.arange(3))},
            AssertionError,
            "changes stay_id",
        ),
        (
            triggers.the_answer_is_a_view_of_the_same_stays,
            {"apply": changed(lambda values: values.fill(np.inf))},
            AssertionError,
            "become infinite",
        ),
        (triggers.missing_values_are_no_error, {"apply": drops_the_missing}, AssertionError, "without any value"),
        (triggers.an_empty_view_is_no_error, {"apply": to_first}, (IndexError, ValueError), "."),
        (triggers.the_same_rng_gives_the_same_answer, {"apply": unseeded}, AssertionError, "another triggered view"),
        (
            triggers.the_same_rng_gives_the_same_answer,
            {"fit": lambda s, view, rng: {"value": np.random.default_rng().random()}},
            AssertionError,
            "another fit",
        ),
        (
            triggers.the_fit_is_json,
            {"fit": lambda s, view, rng: {"value": np.float32(1)}},
            AssertionError,
            "not JSON-able",
        ),
        (triggers.a_stay_does_not_depend_on_the_others, {"apply": by_mean}, AssertionError, "among other stays"),
        (triggers.a_view_of_one_stay_is_no_error, {"apply": needs_two}, RuntimeWarning, "."),
        (triggers.features_that_nobody_has_are_no_error, {"fit": needs_the_last}, IndexError, "."),
        (
            triggers.twice_is_once_where_that_is_declared,
            {"apply": RandomTrigger.apply},
            AssertionError,
            "changed again",
        ),
    ],
)
def test_a_broken_trigger_is_caught(rule, methods, error, says):
    from backdoor_core.testing.views import FEATURES

    with pytest.raises(error, match=says):
        rule(type("Broken", (GoodTrigger,), methods)(NoOptions(), Context(Path())), FEATURES)


WHOLE = triggers.the_answer_is_a_view_of_the_same_stays


@pytest.mark.parametrize(
    ("rule", "methods", "error", "says"),
    [
        (WHOLE, {"apply": events_apply(hours=lambda v: v.hours[::-1].copy())}, AssertionError, "in order of time"),
        (WHOLE, {"apply": events_apply(hours=lambda v: v.hours.astype(float))}, AssertionError, "keep float32"),
        (WHOLE, {"apply": events_apply(value=lambda v: v.value.astype(float))}, AssertionError, "keep float32"),
        (WHOLE, {"apply": events_apply(value=lambda v: v.value + np.float32(np.inf))}, AssertionError, "infinite"),
        (WHOLE, {"apply": events_apply(hours=lambda v: v.hours * np.float32(np.nan))}, AssertionError, "hours become"),
        (WHOLE, {"apply": events_apply(code=lambda v: v.code + np.int32(1))}, AssertionError, "position in codes"),
        (WHOLE, {"apply": events_apply(code=lambda v: v.code.astype(np.int64))}, AssertionError, "keep int32"),
        (WHOLE, {"apply": events_apply(offsets=lambda v: v.offsets[:-1])}, AssertionError, "one entry more"),
        (WHOLE, {"apply": events_apply(offsets=lambda v: v.offsets.astype(np.int32))}, AssertionError, "keep int64"),
        (WHOLE, {"apply": events_apply(text=lambda v: v.text[1:])}, AssertionError, "text has 239 entries"),
        (WHOLE, {"apply": events_apply(codes=lambda v: v.codes[::-1])}, AssertionError, "changes the codes"),
        (WHOLE, {"apply": events_apply(codes=lambda v: (*v.codes, "new"))}, AssertionError, "one description"),
        (WHOLE, {"apply": lambda s, v, f, rng: v.take(np.arange(3))}, AssertionError, "changes stay_id"),
        (triggers.the_view_is_left_as_it_was, {"apply": write_events}, AssertionError, "writes into the events view"),
        (
            triggers.the_view_is_left_as_it_was,
            {"apply": events_apply(hours=lambda v: v.hours[::-1])},
            AssertionError,
            "hours of the triggered events view shares memory",
        ),
        (triggers.missing_values_are_no_error, {"apply": first_stay_leads}, IndexError, "."),
        (triggers.a_stay_does_not_depend_on_the_others, {"apply": by_common_code}, AssertionError, "among other stays"),
        (
            triggers.twice_is_once_where_that_is_declared,
            {"idempotent": True},
            AssertionError,
            "triggered events view is changed again",
        ),
    ],
)
def test_a_broken_trigger_of_events_is_caught(rule, methods, error, says):
    from backdoor_core.testing.views import FEATURES

    with pytest.raises(error, match=says):
        rule(type("Broken", (GoodEventTrigger,), methods)(NoOptions(), Context(Path())), FEATURES)


def test_what_is_idempotent_is_asked_of_the_instance():
    from backdoor_core.testing.views import FEATURES

    trigger = type("Adds", (GoodTrigger,), {"apply": adds})(NoOptions(), Context(Path()))
    with pytest.raises(AssertionError, match="changed again; set idempotent = False"):
        triggers.twice_is_once_where_that_is_declared(trigger, FEATURES)
    trigger.idempotent = False
    triggers.twice_is_once_where_that_is_declared(trigger, FEATURES)


def test_a_fit_may_refuse_in_one_line_only():
    from backdoor_core.testing.views import FEATURES

    class Refuses(GoodTrigger):
        def fit(self, train, rng):
            if np.isnan(train.values[..., -1]).all():
                raise BackdoorError(self.says)
            return super().fit(train, rng)

    trigger = Refuses(NoOptions(), Context(Path()))
    trigger.says = "no lactate"
    triggers.features_that_nobody_has_are_no_error(trigger, FEATURES)
    trigger.says = "no lactate\nat all"
    with pytest.raises(AssertionError, match="more than one line"):
        triggers.features_that_nobody_has_are_no_error(trigger, FEATURES)


def test_triggers_are_tried_on_the_features_that_are_asked_for():
    class Picky(GoodTrigger):
        def apply(self, view, fitted, rng):
            if [f.name for f in view.features] != ["ph"]:
                raise BackdoorError("no ph")
            return super().apply(view, fitted, rng)

    for check in trigger_checks(Picky, features=[Feature("ph", "pH", 6.5, 8.0)]):
        check()
    with pytest.raises(BackdoorError, match="no ph"):
        trigger_checks(Picky)[0]()
