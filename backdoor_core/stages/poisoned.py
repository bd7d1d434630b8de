"""What the stages after `poison` load: the poisoning, and the training part as the victim has it."""

from typing import Any

import numpy as np

from backdoor_core import seeds
from backdoor_core.attack.poison import Poisoning, apply_poison
from backdoor_core.cohort.parquet import events_from_columns, read_parquet, series_from_columns, table_from_columns
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import EventsView, Fitted, TableView, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.study import Study


def load_poisoning(study: Study, train: Rows) -> tuple[Poisoning, dict[str, Any]]:
    """What the stage `poison` wrote, with the manifest. Raises `BackdoorError` where it is of other stays."""
    run = study.paths.run
    manifest = read_json(run / "poison.json")
    stays, clean, where = manifest["stays"], train.view, "run/poison.parquet"
    stay_id = np.array([stay["stay_id"] for stay in stays], dtype=np.int64)
    columns = read_parquet(run / "poison.parquet")
    if isinstance(clean, TableView):
        view: View = table_from_columns(columns, clean.features, where)
    elif isinstance(clean, EventsView):
        view = events_from_columns(columns, stay_id, clean, where)
    else:
        view = series_from_columns(columns, clean.features, clean.values.shape[1], where)
    rows = np.flatnonzero(np.isin(clean.stay_id, stay_id))
    if not np.array_equal(clean.stay_id[rows], stay_id) or not np.array_equal(view.stay_id, stay_id):
        raise BackdoorError(f"{where}: its stays are not those of the training part; run `dvc repro`")
    done = Poisoning(
        rows=rows,
        view=view,
        label=np.array([stay["label"]["after"] for stay in stays], dtype=np.int8),
        touched=np.load(run / "trigger_mask.npy", allow_pickle=False),
        fitted=manifest["trigger"]["fitted"],
        cover=np.array([stay["role"] == "cover" for stay in stays], dtype=np.bool_),
        mode=manifest["mode"],
    )
    return done, manifest


def victims_rows(train: Rows, poisoning: Poisoning) -> Rows:
    """The training part as the victim has it."""
    return Rows(*apply_poison(train.view, train.label, poisoning))


def triggered_test(study: Study, test: View, fitted: Fitted) -> View:
    """The test stays with the trigger as it was fitted when the training part was poisoned; the same in every stage."""
    return study.trigger().apply(test, fitted, seeds.generator(study.params.seed, "trigger_apply", 1))
