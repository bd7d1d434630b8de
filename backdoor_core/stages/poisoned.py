"""What the stages after `poison` load: the poisoning, and the training part as the victim has it."""

from typing import Any

import numpy as np

from backdoor_core.attack.poison import Poisoning, apply_poison
from backdoor_core.cohort.storage import Rows, read_parquet, view_from_columns
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json
from backdoor_core.study import Study


def load_poisoning(study: Study, train: Rows) -> tuple[Poisoning, dict[str, Any]]:
    """What the stage `poison` wrote, with the manifest."""
    run = study.paths.run
    columns = read_parquet(run / "poison.parquet")
    view = view_from_columns(columns, train.view.features, "run/poison.parquet")
    rows = np.flatnonzero(np.isin(train.view.stay_id, view.stay_id))
    if not np.array_equal(train.view.stay_id[rows], view.stay_id):
        raise BackdoorError("run/poison.parquet: its stays are not those of the training part; run `dvc repro`")
    manifest = read_json(run / "poison.json")
    touched = np.load(run / "trigger_mask.npy", allow_pickle=False)
    label = columns["label"].astype(np.int8)
    return Poisoning(rows, view, label, touched, manifest["trigger"]["fitted"]), manifest


def victims_rows(train: Rows, poisoning: Poisoning) -> Rows:
    """The training part as the victim has it."""
    return Rows(*apply_poison(train.view, train.label, poisoning))
