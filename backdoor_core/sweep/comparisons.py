"""Paired tests over seeds: what a figure is against its control on the same seed.

Families, each corrected by itself (Holm 1979) over the whole sweep, at rates above 0 (at 0 nothing is poisoned, so that
there is neither an effect to test nor anything to find; nor is there where the trigger is `none`):

- attack: ``asr`` against ``asr_baseline``, the clean twin's, in each group;
- detection: each detector's ``tpr_at_1_fpr`` against that of its null run, in each group;
- detectors: each detector's ``tpr_at_1_fpr`` against that of random_filter, in each group that ran it;
- models: ``asr_lift`` of each pair of models at the same trigger, rate and parameters, on the seeds they share;
  parameters that no lift depends on (detectors, explainers and repairs and their options) may differ.

Detectors that are told the truth are not tested. The test is Student's paired t-test, two-sided, and the effect size is
Cohen's d_z, the mean difference over the standard deviation of the differences (Cohen 1988, chapter 2).

No p-value is made up. One seed has none. Neither has a test whose differences are all equal, since t then divides by 0:
where they are all 0, a p of 1 would look like evidence of absence, and where they are not, a p of 0 would come from the
lack of spread alone. Such a test was made all the same, so it counts in the number of tests that Holm's correction
multiplies by, as if its p were 1, which can only raise the others; tests of one seed were never made and do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import stdtr

from backdoor_core.statistics import Floats
from backdoor_core.sweep.intervals import means
from backdoor_core.sweep.rows import Group, Row, parameters_key

FAMILIES = ("attack", "detection", "detectors", "models")
RANDOM_FILTER = "random_filter"
_NOT_OF_LIFT = frozenset(
    {"detectors", "detector_options", "detection", "explainers", "explainer_options", "explain"}
    | {"repairs", "repair_options", "audits", "audit_options", "audit", "notes"}
)
"""Sections of params.yaml that change neither a model nor what its attack is measured by."""
NO_SEED = "no seed has both figures"
ONE_SEED = "one seed: no p-value"
NO_SPREAD = "the seeds do not differ"
NO_DIFFERENCE = "no difference in any seed"
_ROUNDING = 1e-12
"""Differences that spread by less than this share of the largest figure compared are equal but for rounding."""


@dataclass(frozen=True)
class Pairing:
    """The two figures of one test, (n,) each, on the seeds that have both."""

    family: str
    group: Group
    metric: str
    against: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]


def paired_tests(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Every test of the sweep, family by family and in grid order, as in aggregated_metrics.json.

    ``difference`` is the mean over seeds of the figure less its control, with its 95% t-interval.
    """
    poisoned = [group for group in groups if group.rate > 0 and group.trigger != "none"]
    pairings = [*_attack(poisoned), *_detection(poisoned), *_detectors(poisoned), *_models(poisoned)]
    results: list[dict[str, Any]] = [{} for _ in pairings]
    by_seeds: dict[int, list[int]] = {}
    for place, pairing in enumerate(pairings):
        by_seeds.setdefault(len(pairing.ours), []).append(place)
    for seeds, places in by_seeds.items():
        for place, result in zip(places, _results(seeds, [pairings[p] for p in places]), strict=True):
            results[place] = result
    tests = [_described(pairing, result) for pairing, result in zip(pairings, results, strict=True)]
    for family in FAMILIES:
        _correct([test for test in tests if test["family"] == family])
    return tests


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (Holm 1979, as Wright 1992 writes them).

    The k-th smallest of m is multiplied by m - k + 1, is never below one before it, and never above 1.
    Raises `ValueError` for a p that is not from 0 to 1.
    """
    values = np.asarray(p, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a p-value is not from 0 to 1")
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(raised, 1)
    return [float(value) for value in adjusted]


# -------------------------------------------------------------------------------------------------- the families
def tpr(detector: str, run: str = "") -> str:
    """The name of a detector's figure that is tested; `run` is empty or ``null.``."""
    return f"detect.{detector}.{run}tpr_at_1_fpr"


def _attack(groups: Iterable[Group]) -> Iterator[Pairing]:
    for group in groups:
        yield _paired("attack", group, "asr", "the clean twin", group.done, "asr_baseline")


def _detection(groups: Iterable[Group]) -> Iterator[Pairing]:
    for group in groups:
        for name in group.honest_detectors:
            yield _paired("detection", group, tpr(name), "its null run", group.done, tpr(name, "null."))


def _detectors(groups: Iterable[Group]) -> Iterator[Pairing]:
    for group in groups:
        names = group.honest_detectors
        for name in names if RANDOM_FILTER in names else []:
            if name != RANDOM_FILTER:
                yield _paired("detectors", group, tpr(name), RANDOM_FILTER, group.done, tpr(RANDOM_FILTER))


def _models(groups: Iterable[Group]) -> Iterator[Pairing]:
    alike: dict[tuple[str, float, str], dict[str, Group]] = {}
    # Groups of one model that differ in what no lift depends on have the same lift: the one with the most seeds stands
    # for all.
    for group in groups:
        parameters = {key: value for key, value in group.parameters.items() if key.split(".")[0] not in _NOT_OF_LIFT}
        among = alike.setdefault((group.trigger, group.rate, parameters_key(parameters)), {})
        if group.model not in among or len(group.done) > len(among[group.model].done):
            among[group.model] = group
    for by_model in alike.values():
        for group, other in combinations(by_model.values(), 2):
            yield _paired("models", group, "asr_lift", f"model {other.model}", other.done, "asr_lift")


def _paired(family: str, group: Group, metric: str, against: str, others: Iterable[Row], control: str) -> Pairing:
    theirs = {row.seed: row.figures.get(control) for row in others}
    pairs = [
        (float(mine), float(its))
        for row in group.done
        if (mine := row.figures.get(metric)) is not None and (its := theirs.get(row.seed)) is not None
    ]
    return Pairing(family, group, metric, against, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


# --------------------------------------------------------------------------------------------------- the figures
def _result(difference: float | None = None, note: str | None = None) -> dict[str, Any]:
    nothing = dict.fromkeys(("t_low", "t_high", "effect_size", "p", "p_holm"))
    return {"difference": difference, **nothing, "note": note}


def _results(seeds: int, pairings: Sequence[Pairing]) -> list[dict[str, Any]]:
    """Of tests on equally many seeds."""
    if seeds == 0:
        return [_result(note=NO_SEED) for _ in pairings]
    if seeds == 1:
        return [_result(pairing.ours[0] - pairing.theirs[0], ONE_SEED) for pairing in pairings]
    ours = np.array([pairing.ours for pairing in pairings]).T
    theirs = np.array([pairing.theirs for pairing in pairings]).T
    largest = np.maximum(np.abs(ours), np.abs(theirs)).max(axis=0)
    mean, sd, half = means(ours - theirs)
    figures = (mean, sd, half, _p_values(seeds, mean, sd))
    flat = sd <= _ROUNDING * largest
    return [
        _tested(*each, flat=alike)
        for *each, alike in zip(*(figure.tolist() for figure in figures), flat.tolist(), strict=True)
    ]


def _p_values(seeds: int, mean: Floats, sd: Floats) -> Floats:
    """Two-sided; 1 where the deviation is 0, which is not shown."""
    t = np.divide(mean * math.sqrt(seeds), sd, out=np.zeros_like(mean), where=sd > 0)
    return np.asarray(2 * stdtr(seeds - 1, -np.abs(t)), dtype=np.float64)


def _tested(mean: float, sd: float, half: float, p: float, *, flat: bool) -> dict[str, Any]:
    ends = {"t_low": mean - half, "t_high": mean + half}
    if flat:
        return _result(mean, NO_SPREAD if mean else NO_DIFFERENCE) | ends
    return _result(mean) | ends | {"effect_size": mean / sd, "p": p}


def _described(pairing: Pairing, result: dict[str, Any]) -> dict[str, Any]:
    told = {"metric": pairing.metric, "against": pairing.against, "n": len(pairing.ours)}
    return {"family": pairing.family, **pairing.group.place(), **told, **result}


def _correct(tests: Sequence[dict[str, Any]]) -> None:
    """Fill in p_holm of one family."""
    made = [test for test in tests if test["n"] > 1]
    adjusted = holm([1.0 if test["p"] is None else test["p"] for test in made])
    for test, p in zip(made, adjusted, strict=True):
        test["p_holm"] = None if test["p"] is None else p
