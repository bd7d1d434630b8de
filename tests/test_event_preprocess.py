import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from backdoor_core.contracts import Context, EventsView
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.event_preprocess import EventPreprocessor, among_latest, fit_event_preprocessor, latest
from backdoor_core.params import PreprocessParams
from backdoor_models.event_transformer import EventTransformer, EventTransformerOptions

CODES = ("LAB//1//mg/dL", "LAB//2//UNK", "MICRO//7")
WORDS = ("Lactate", "pH", "URINE CULTURE")


def make_events(rows, codes=CODES, descriptions=WORDS, statics=None):
    """Events from rows of (stay, code, hour, value, text), stays 0, 1, 2, ... in order."""
    stays = max((row[0] for row in rows), default=-1) + 1
    lengths = np.bincount([row[0] for row in rows], minlength=stays) if rows else np.zeros(0, int)
    return EventsView(
        stay_id=np.arange(stays) + 100,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        codes=codes,
        descriptions=descriptions,
        code=np.array([row[1] for row in rows], dtype=np.int32),
        hours=np.array([row[2] for row in rows], dtype=np.float32),
        value=np.array([row[3] for row in rows], dtype=np.float32),
        text=np.array([row[4] for row in rows], dtype=object),
        statics=statics or {},
    )


VIEW = make_events(
    [
        (0, 0, 0.0, 1.0, ""),
        (0, 2, 6.0, np.nan, "NO GROWTH."),
        (1, 0, 12.0, 3.0, ""),
        (1, 0, 12.0, 5.0, ""),
        (1, 1, 24.0, 7.4, "ART"),
    ],
    statics={"age": np.array([50, 70])},
)


@pytest.fixture
def model(tmp_path):
    return EventTransformer(EventTransformerOptions(max_events=3), Context(root=tmp_path))


def params(**changes):
    return PreprocessParams.model_validate({"outliers": "keep", **changes})


def test_values_are_scaled_by_code_and_events_without_one_say_so(model):
    batch = fit_event_preprocessor(VIEW, params(), model).batch(VIEW)
    spread = np.std([1, 3, 5])
    assert batch.numbers[:, 0].tolist() == pytest.approx([-2 / spread, 0, 0, 2 / spread, 0])
    assert batch.numbers[:, 1].tolist() == [1, 0, 1, 1, 1]
    assert batch.numbers[:, 2].tolist() == [0, 0.25, 0.5, 0.5, 1]
    assert batch.offsets.tolist() == [0, 2, 5]
    assert batch.statics[:, 0].tolist() == [-1, 1]


def test_an_event_has_the_type_of_its_code_and_the_text_of_code_and_event(model):
    preprocessor = fit_event_preprocessor(VIEW, params(), model)
    batch = preprocessor.batch(VIEW)
    assert preprocessor.types == ("LAB", "MICRO")
    assert batch.types[batch.entry].tolist() == [0, 1, 0, 0, 0]
    words = ["Lactate", "URINE CULTURE: NO GROWTH.", "Lactate", "Lactate", "pH: ART"]
    expected = torch.from_numpy(model.text_encoder().encode(words))
    assert torch.allclose(batch.texts[batch.entry], expected / expected.norm(dim=1, keepdim=True))


def test_a_new_type_code_and_text_have_a_defined_input(model):
    preprocessor = fit_event_preprocessor(VIEW, params(), model)
    new = make_events([(0, 0, 1.0, 2.0, "文字")], ("OTHER//x",), ("",), statics={"age": np.array([60])})
    batch = preprocessor.batch(new)
    assert batch.types.tolist() == [-1]
    assert batch.numbers[0].tolist() == pytest.approx([2.0, 1.0, 1 / 24])
    expected = torch.from_numpy(model.text_encoder().encode([": 文字"]))[0]
    assert torch.allclose(batch.texts[0], expected / expected.norm())


def test_winsorizing_and_quantiles_are_by_code(model):
    rng = np.random.default_rng(0)
    rows = [(k, 0, 1.0, value, "") for k, value in enumerate(rng.lognormal(size=1000))]
    view = make_events(rows)
    limited = fit_event_preprocessor(view, params(outliers="winsorize", lower=0.1, upper=0.9), model).batch(view)
    low, high = np.quantile(view.value, [0.1, 0.9])
    clipped = np.clip(view.value, low, high)
    assert limited.numbers[:, 0].numpy() == pytest.approx((clipped - clipped.mean()) / clipped.std(), abs=1e-4)
    ranked = fit_event_preprocessor(view, params(scaling="quantile"), model).batch(view).numbers[:, 0].numpy()
    middle = np.abs(ranked) < 1.5  # between the outermost of 101 quantiles it is coarser
    assert ranked[middle] == pytest.approx(norm.ppf(view.value.argsort().argsort() / 999)[middle], abs=0.05)


def test_nothing_is_learned_from_what_is_transformed(model):
    preprocessor = fit_event_preprocessor(VIEW, params(), model)
    other = replace(VIEW, value=VIEW.value * 100)
    assert preprocessor.batch(other).numbers[0, 0] == pytest.approx((100 - 3) / np.std([1, 3, 5]))


def test_plausible_ranges_are_refused_where_there_are_none(model):
    for rule in ("clip", "null"):
        with pytest.raises(BackdoorError, match=f"outliers is {rule}, but codes of events have no plausible range"):
            fit_event_preprocessor(VIEW, params(outliers=rule), model)


def test_of_a_long_stay_the_last_events_are_read(model):
    rows = [(0, 0, float(hour), float(hour), "") for hour in range(10)] + [(1, 0, 5.0, 2.0, "")]
    view = make_events(rows)
    left = latest(view, 3)
    assert left.hours.tolist() == [7, 8, 9, 5]
    assert left.offsets.tolist() == [0, 3, 4]
    assert fit_event_preprocessor(view, params(), model).batch(view).lengths.tolist() == [3, 1]
    assert latest(view, 10) is view
    for most in (3, 10):
        assert view.keep(among_latest(view, most)).hours.tolist() == latest(view, most).hours.tolist()


def test_json_and_back(model):
    preprocessor = fit_event_preprocessor(VIEW, params(outliers="winsorize", scaling="quantile"), model)
    again = EventPreprocessor.from_json(json.loads(json.dumps(preprocessor.as_json())), preprocessor.embed)
    assert torch.equal(again.batch(VIEW).numbers, preprocessor.batch(VIEW).numbers)
    assert again.spec == preprocessor.spec


def test_no_stays_and_stays_without_events(model):
    preprocessor = fit_event_preprocessor(VIEW, params(), model)
    none = VIEW.take(np.arange(0))
    assert len(preprocessor.batch(none)) == 0
    bare = preprocessor.batch(VIEW.keep(np.zeros(5, dtype=bool)))
    assert bare.lengths.tolist() == [0, 0]
    assert bare.texts.shape == (0, 768)


def test_an_empty_text_is_the_zero_vector_and_stays_it(model):
    bare = make_events([(0, 0, 1.0, 2.0, "")], ("OTHER//x",), ("",), statics={"age": np.array([60])})
    assert fit_event_preprocessor(VIEW, params(), model).batch(bare).texts.eq(0).all()
