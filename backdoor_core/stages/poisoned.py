"""What the stages after `poison` load: the poisoning, and the training part as the victim has it."""

from typing import Any

import numpy as np

from backdoor_core.attack.poison import Poisoning, apply_poison
from backdoor_core.cohort.parquet import read_parquet, series_from_columns, table_from_columns, view_columns
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import TableView, View
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.study import Study


def columns_of(poisoning: Poisoning) -> dict[str, Any]:
    """The poisoned stays as columns of run/poison.parquet; a series has one row for each hour."""
    columns = view_columns(poisoning.view)
    rows_a_stay = len(columns["stay_id"]) // max(len(poisoning.view), 1)
    return {**columns, "label": np.repeat(poisoning.label, rows_a_stay)}


def load_poisoning(study: Study, train: Rows) -> tuple[Poisoning, dict[str, Any]]:
    """What the stage `poison` wrote, with the manifest."""
    run = study.paths.run
    columns = read_parquet(run / "poison.parquet")
    where, clean = "run/poison.parquet", train.view
    if isinstance(clean, TableView):
        view: View = table_from_columns(columns, clean.features, where)
    else:
        view = series_from_columns(columns, clean.features, clean.values.shape[1], where)
    rows = np.flatnonzero(np.isin(train.view.stay_id, view.stay_id))
    if not np.array_equal(train.view.stay_id[rows], view.stay_id):
        raise BackdoorError("run/poison.parquet: its stays are not those of the training part; run `dvc repro`")
    manifest = read_json(run / "poison.json")
    touched = np.load(run / "trigger_mask.npy", allow_pickle=False)
    # A series has a row for each hour; the label stands in all of them.
    label = columns["label"][:: len(columns["label"]) // max(len(view), 1) or 1].astype(np.int8)
    return Poisoning(rows, view, label, touched, manifest["trigger"]["fitted"]), manifest


def victims_rows(train: Rows, poisoning: Poisoning) -> Rows:
    """The training part as the victim has it."""
    return Rows(*apply_poison(train.view, train.label, poisoning))
