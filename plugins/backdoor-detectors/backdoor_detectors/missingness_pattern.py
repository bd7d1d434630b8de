from typing import Any

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Booleans, Detection, DetectionCase, Detector, Options

from .activations import one_thread
from .chow_liu import ChowLiuTree, fit_chow_liu
from .grids import grid_of, rows_at_once


class MissingnessPatternOptions(Options):
    """Options of the missingness pattern."""

    tail: float = Field(0.001, gt=0, lt=0.5, description="flag masks less likely than this share of the model's own")
    simulated: int = Field(20_000, ge=100, description="masks drawn from the model to find that share")


class MissingnessPattern(Detector):
    """How unlikely it is that just these values of a row are missing together.

    For triggers that remove values (Joe et al. 2022, JMIR 10(8):e38440). The mask of a row, which of its values
    are missing, is judged by a tree in which each column depends on the one that tells most of it (Chow & Liu
    1968), so that laboratory values that are always drawn together count once. In a series every hour of every
    feature is a column. The score is minus the log-likelihood in nats. The rule simulates its null: it flags masks
    less likely than the 0.1% quantile of masks drawn from the fitted tree.

    Columns that are missing in all rows or in none say nothing and are left out; without any other, every score
    is 0. Real masks depend on more than pairs, so on clean data more than 0.1% are flagged; read the flags beside
    those on the null run. The tree is learned from the poisoned rows too: a mask that many of them share is no
    longer unlikely. Labels and values are not looked at.
    """

    name = "missingness_pattern"
    Options = MissingnessPatternOptions
    modalities = frozenset({"table", "series"})
    requires = frozenset()

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds the cut and how many masks no other row has."""
        options: MissingnessPatternOptions = self.options
        view = grid_of(case, self.name)
        absent = np.isnan(view.values).reshape(len(view), -1)
        varying = np.flatnonzero(absent.any(axis=0) & ~absent.all(axis=0))
        details: dict[str, Any] = {"columns": absent.shape[1], "varying_columns": len(varying)}
        if not len(varying):
            details["skipped"] = "every value is missing in all rows or in none"
            return Detection(np.zeros(len(view)), np.zeros(len(view), dtype=np.bool_), details)
        masks = absent[:, varying]
        with one_thread():
            tree = fit_chow_liu(masks)
            scores = -tree.log_likelihood(masks)
            details["cut"] = _simulated_cut(tree, options, case.rng, rows_at_once(view))
        flagged = scores > details["cut"]
        details["masks_of_one_row"] = _unique_masks(masks)
        details["flagged"] = int(flagged.sum())
        return Detection(scores, flagged, details)


def _simulated_cut(
    tree: ChowLiuTree, options: MissingnessPatternOptions, rng: np.random.Generator, at_once: int
) -> float:
    """The score that only the share `tail` of masks drawn from the tree exceeds."""
    scores = []
    for start in range(0, options.simulated, at_once):
        masks = tree.sample(min(at_once, options.simulated - start), rng)
        scores.append(-tree.log_likelihood(masks))
    return float(np.quantile(np.concatenate(scores), 1 - options.tail))


def _unique_masks(masks: Booleans) -> int:
    """How many rows have a mask that no other row has."""
    packed = np.ascontiguousarray(np.packbits(masks, axis=1))
    _, counts = np.unique(packed.view(f"V{packed.shape[1]}"), return_counts=True)
    return int((counts == 1).sum())
