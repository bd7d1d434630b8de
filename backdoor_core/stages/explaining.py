"""What the stage `explain` works on: the explained stays, the models, and what is told of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core import seeds
from backdoor_core.attack.cells import changed_cells
from backdoor_core.console import progress, say
from backdoor_core.contracts import Booleans, Explainer, GridView, Modality, View
from backdoor_core.explanation.baselines import REFERENCE_ROWS, reference_inputs
from backdoor_core.files import read_json
from backdoor_core.learning.victim import Victim, load_victim
from backdoor_core.report.drawing import Picture
from backdoor_core.stages.data import Parts
from backdoor_core.stages.poisoned import triggered_test
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import Study
from backdoor_core.views import as_grid

NO_STAYS = "no test stay has another label than the target"

References = dict[str, NDArray[np.float32]]
"""(B, ...) reference inputs for each model."""


@dataclass(frozen=True)
class Stays:
    """The N attacked test stays that are explained."""

    clean: GridView
    triggered: GridView
    touched: Booleans
    """(N, F) or (N, T, F): the cells that the trigger changed, found by comparing before with after."""
    weights: NDArray[Any]
    """(replicates, N) resamples of their patients."""
    attacked: int
    """How many there are to draw from."""

    @property
    def features(self) -> tuple[str, ...]:
        """(F,) names."""
        return tuple(feature.name for feature in self.clean.features)


@dataclass(frozen=True)
class Drawn:
    """N attacked test stays, at most `explain.rows` of them, without and with the trigger."""

    clean: View
    triggered: View
    rows: NDArray[np.int64]
    """(N,) their positions in the test part."""
    weights: NDArray[Any]
    """(replicates, N) resamples of their patients."""
    attacked: int
    """How many there are to draw from."""


def draw_stays(study: Study, parts: Parts) -> Drawn:
    """The stays that are explained, with the trigger as stage `evaluate` applies it."""
    params, test = study.params, parts.test
    fitted = read_json(study.paths.run / "poison.json")["trigger"]["fitted"]
    triggered = triggered_test(study, test.view, fitted)
    attacked = np.flatnonzero(test.label != params.poison.target)
    drawn = seeds.generator(params.seed, "explanation").permutation(len(attacked))[: params.explain.rows]
    rows = attacked[np.sort(drawn)]
    weights: NDArray[Any] = np.empty((params.evaluate.replicates, 0))
    if len(rows):
        patients = parts.cohort.subject_id[parts.splits.test][rows]
        rng = seeds.generator(params.seed, "explain_bootstrap")
        weights = cluster_bootstrap_weights(patients, params.evaluate.replicates, rng)
    return Drawn(test.view.take(rows), triggered.take(rows), rows, weights, len(attacked))


def load_stays(study: Study, parts: Parts) -> Stays:
    """The stays that are explained, of a table or series, and the cells that the trigger changes in them."""
    drawn = draw_stays(study, parts)
    clean, changed = as_grid(drawn.clean), as_grid(drawn.triggered)
    return Stays(clean, changed, changed_cells(clean, changed), drawn.weights, drawn.attacked)


def load_victims(study: Study) -> dict[str, Victim]:
    """The poisoned model, its twin, and the clean retrains by number."""
    params, model, paths = study.params, study.model(), study.paths
    folders = {"poisoned": paths.run, "baseline": paths.baseline}
    folders |= {str(number): paths.nulls / str(number) for number in range(params.detection.nulls)}
    return {
        name: load_victim(folder, model, params.train.device, params.train.threads) for name, folder in folders.items()
    }


def make_references(study: Study, parts: Parts, victims: dict[str, Victim]) -> References:
    """What attributions are measured from: the same clean training stays, as each model's preprocessing gives them."""
    params, train = study.params, parts.train.view
    drawn = seeds.generator(params.seed, "explanation", 0).permutation(len(train))[:REFERENCE_ROWS]
    reference = train.take(np.sort(drawn))

    def made(victim: Victim) -> NDArray[np.float32]:
        rng = seeds.generator(params.seed, "explanation", 1)
        return reference_inputs(params.explain.baseline, victim.inputs(reference), rng)

    return {name: made(victim) for name, victim in victims.items()}


def sidecar(study: Study, stays: Stays) -> dict[str, Any]:
    """What the files of attributions hold, in which order; JSON-able."""
    names = list(study.params.explainers)
    return {
        "files": {
            "explanations_clean_<explainer>.npy": "the poisoned model, the stays as they are",
            "explanations_poison_<explainer>.npy": "the poisoned model, the same stays with the trigger",
            "baseline/explanations_poison_<explainer>.npy": "the clean twin, with the trigger",
            "explanations_clean.npy, explanations_poison.npy": f"those of {names[0]}, the first explainer",
        },
        "explainers": names,
        "explained": f"log-odds of label {study.params.poison.target}",
        "shape": list(stays.touched.shape),
        "dtype": "float32",
        "axes": ["stay", "feature"] if stays.touched.ndim == 2 else ["stay", "hour", "feature"],
        "features": list(stays.features),
        "stay_id": stays.clean.stay_id.tolist(),
    }


def about(
    study: Study, modality: Modality, baseline: str, attacked: int, features: Sequence[str], touched: Booleans
) -> dict[str, Any]:
    """Which stays are explained, from what, and which features (N, F) the trigger touches in them."""
    counts = touched.sum(axis=0)
    return {
        "stays": {"attacked": attacked, "explained": len(touched), "touched": int(touched.any(axis=1).sum())},
        "target": study.params.poison.target,
        "baseline": baseline,
        "steps": study.params.explain.steps,
        "retrains": study.params.detection.nulls,
        "modality": modality,
        "touched": {features[int(place)]: int(counts[place]) for place in np.flatnonzero(counts)},
    }


def told_by_each(
    study: Study, results: dict[str, Any], tell: Callable[[Explainer], tuple[dict[str, Any], dict[str, Picture]]]
) -> dict[str, Picture]:
    """What `tell` drew, explainer by explainer; what it found goes into `results`, and a line of it is said."""
    pictures: dict[str, Picture] = {}
    explainers = study.explainers()
    with progress("explainers", len(explainers)) as advance:
        for explainer in explainers:
            found, drawn = tell(explainer)
            results["explainers"][explainer.name] = found
            pictures |= drawn
            if found["warning"]:
                say(f"warning: {explainer.name}: {found['warning']}")
            advance(_in_a_line(explainer.name, found["figures"]))
    return pictures


def names_of_files(study: Study, explainer: Explainer) -> tuple[str, ...]:
    """How the files of an explainer's attributions end; the first explainer's stand under a plain name as well."""
    return (f"_{explainer.name}", "") if explainer.name == study.params.explainers[0] else (f"_{explainer.name}",)


def write_pictures(pictures: Mapping[str, Picture], folder: Path) -> None:
    """Each figure as SVG and PNG into the new folder."""
    folder.mkdir()
    for name, picture in pictures.items():
        (folder / f"{name}.svg").write_text(picture.svg, encoding="utf-8")
        (folder / f"{name}.png").write_bytes(picture.png)


def _in_a_line(name: str, figures: Mapping[str, Any]) -> str:
    """An explainer's TAR, for the terminal."""
    value, twin = figures["tar"]["value"], figures["tar_baseline"]["value"]
    return f"{name}: no ratio" if value is None or twin is None else f"{name}: TAR {value:.3f}, clean twin {twin:.3f}"
