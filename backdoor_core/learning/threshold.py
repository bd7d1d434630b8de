"""The decision threshold, chosen on validation data by a stated rule."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Floats

Rule = Literal["prevalence", "youden", "f1"]


def choose_threshold(probability: Floats, truth: NDArray[np.int8], rule: Rule) -> float:
    """The threshold t at which ``probability >= t`` is best by `rule`; halfway between two neighboring values.

    To call no stay positive is a choice as well, with a threshold halfway from the largest value to 1: a model whose
    answers are all the same calls nobody positive by ``youden``, nor by ``prevalence`` where fewer than half are.

    - ``prevalence``: as many stays are called positive as are positive (the nearest count that ties allow)
    - ``youden``: sensitivity + specificity is largest (Youden 1950)
    - ``f1``: the harmonic mean of precision and recall is largest

    Among equally good thresholds the highest is taken. Raises `ValueError` where `truth` holds one class only.
    """
    positives, stays = int(truth.sum()), len(truth)
    if positives in (0, stays):
        raise ValueError("a threshold needs both outcomes in the validation part")
    values, counts = np.unique(-probability, return_counts=True)
    called = np.append(0, np.cumsum(counts))
    order = np.argsort(-probability, kind="stable")
    true_positives = np.append(0, np.cumsum(truth[order]))[called]
    false_positives = called - true_positives
    match rule:
        case "prevalence":
            merit = -np.abs(called - positives).astype(np.float64)
        case "youden":
            merit = true_positives / positives - false_positives / (stays - positives)
        case "f1":
            merit = 2 * true_positives / (called + positives)
    best = int(np.argmax(merit))
    # Where all have probability 1, the threshold that none reaches lies a rounding step above it.
    lowest_called = -values[best - 1] if best else np.nextafter(max(1.0, -values[0]), np.inf)
    highest_not_called = -values[best] if best < len(values) else 0.0
    threshold = float((lowest_called + highest_not_called) / 2)
    # Two neighbors one rounding step apart have no float between them.
    return threshold if threshold > highest_not_called else float(lowest_called)
