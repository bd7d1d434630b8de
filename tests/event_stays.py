"""Stays of events with one event that decides the label, and models of them."""

from functools import cache

import numpy as np

from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Context, EventsView
from backdoor_core.learning.training import train_victim
from backdoor_core.params import Params
from backdoor_models.event_transformer import EventTransformer, EventTransformerOptions

CODES = ("LAB//1", "LAB//2", "DRUG//a", "DRUG//b", "DRUG//fatal")
DESCRIPTIONS = ("Lactate", "Sodium", "Aspirin", "Insulin", "Vasopressin")
PLANTED = 4


def planted(stays=160, seed=0, most=13):
    """Stays of five and more common events; a third also has the one event that goes with label 1."""
    rng = np.random.default_rng(seed)
    label = (rng.random(stays) < 1 / 3).astype(np.int8)
    code, hours, lengths = [], [], []
    for row in range(stays):
        events = int(rng.integers(5, most))
        own = rng.integers(0, PLANTED, events).tolist()
        if label[row]:
            own[int(rng.integers(events))] = PLANTED
        code += own
        hours += np.sort(rng.uniform(0, 24, events)).tolist()
        lengths.append(events)
    numbers = np.array(code, dtype=np.int32)
    view = EventsView(
        stay_id=np.arange(stays),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        codes=CODES,
        descriptions=DESCRIPTIONS,
        code=numbers,
        hours=np.array(hours, dtype=np.float32),
        value=np.where(numbers < 2, rng.normal(size=len(numbers)), np.nan).astype(np.float32),
        text=np.full(len(numbers), "", dtype=object),
        statics={"age": rng.integers(18, 90, stays), "sex": np.array(["F", "M"], object)[rng.integers(0, 2, stays)]},
    )
    return Rows(view, label)


@cache
def trained(folder, **options):
    """A model that has learned the planted event; `folder` keeps its embeddings of texts."""
    rows, held_out = planted(), planted(80, seed=1)
    train = {"epochs": 30, "batch_size": 32, "learning_rate": 0.003, "patience": 30, "device": "cpu"}
    base = {"cohort": "synthetic", "trigger": "none", "model": "event_transformer"}
    params = Params.model_validate({**base, "train": train})
    model = EventTransformer(EventTransformerOptions(**options), Context(root=folder))
    return train_victim(model, rows, held_out, rows.view, params, seed=0).victim
