"""A whole study on a small cohort with a signal, its stages run in this process."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from small import FEATURES, make_view

from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.files import write_json
from backdoor_core.study import Study, load_study, plugin_lock

TO_DETECT = ("cohort", "splits", "baseline", "nulls", "null_scores", "poison", "train", "detect")
DETECTORS = ["range_rule", "spectral_signatures", "random_filter", "perfect_filter", "loss_isolation"]
PARAMS = {
    "seed": 7,
    "cohort": "parquet",
    "trigger": "rare_value",
    "model": "mlp",
    "detectors": DETECTORS,
    "inclusion": {"views": ["table"]},
    "poison": {"rate": 0.05},
    "train": {"epochs": 4, "learning_rate": 0.01, "device": "cpu"},
    "evaluate": {"replicates": 100},
    "detection": {"nulls": 3},
    "models": {"mlp": {"hidden": [16], "dropout": 0.0}},
    "triggers": {"rare_value": {"feature": "heart_rate", "value": 9999.0}},
}


def make_study(folder: Path, stays: int = 1500, **changes: object) -> Study:
    """A study in the empty `folder`, its params merged with `changes`; no stage has been run."""
    view, label = make_view(stays)
    columns = {feature.name: view.values[:, place] for place, feature in enumerate(FEATURES)}
    # A quarter of the patients have two stays.
    patient = np.arange(stays) % (4 * stays // 5)
    sex = np.where(columns["sex"] == 1, "M", "F").astype(object)
    table = {"stay_id": view.stay_id, "subject_id": patient, "label": label, "gender": sex, **columns}
    write_parquet(folder / "stays.parquet", table)
    features = {f.name: {"unit": f.unit, "low": float(f.low), "high": float(f.high)} for f in FEATURES}
    cohort = {"table": "stays.parquet", "static": {"sex": "gender", "age": "age"}, "features": features}
    params = {**PARAMS, "cohorts": {"parquet": cohort}}
    for key, value in changes.items():
        merged = isinstance(value, dict) and isinstance(params.get(key), dict)
        params[key] = {**params[key], **value} if merged else value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    study = load_study(folder)
    write_json(study.paths.lock, plugin_lock(study))
    return study


def run_stages(study: Study, *names: str) -> Study:
    """Run the stages one after the other."""
    for name in names:
        importlib.import_module(f"backdoor_core.stages.{name}").run(study)
    return study


def with_detection(study: Study, **changes: object) -> Study:
    """The same study, and the same files, with other `detection` params."""
    detection = study.params.detection.model_copy(update=changes)
    return replace(study, params=study.params.model_copy(update={"detection": detection}))
