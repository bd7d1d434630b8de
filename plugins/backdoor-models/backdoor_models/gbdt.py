"""Gradient-boosted decision trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import ArrayModel, Modality, Options
from backdoor_core.errors import BackdoorError
from backdoor_models.trees import Forest


class GBDTOptions(Options):
    """Options of scikit-learn's HistGradientBoostingClassifier, under its names."""

    learning_rate: float = Field(0.05, gt=0, description="share of each tree's answer that is added")
    max_iter: int = Field(500, ge=1, description="most trees")
    max_leaf_nodes: int = Field(15, ge=2, description="most leaves of a tree")
    min_samples_leaf: int = Field(20, ge=1, description="fewest training stays in a leaf")
    l2_regularization: float = Field(1.0, ge=0, description="L2 penalty on the leaves' values")
    max_features: float = Field(1.0, gt=0, le=1, description="share of features that each split chooses from")
    validation_fraction: float = Field(
        0.15, gt=0, le=0.5, description="share of the training part held back to decide when to stop"
    )
    n_iter_no_change: int = Field(20, ge=1, description="stop after this many trees without a lower held-back loss")


class GBDT(ArrayModel):
    """Gradient-boosted decision trees on histograms, by scikit-learn. No gradient and no embedding.

    Friedman 2001 (Annals of Statistics 29(5), section 4.5 "two-class logistic regression"), with the histograms and
    leaf-wise growth of LightGBM (Ke et al. 2017, NeurIPS). A missing value goes to the side that lowers the loss.
    The defaults grow smaller and more trees than scikit-learn's own, as suits a few thousand stays.
    """

    name = "gbdt"
    Options = GBDTOptions
    modality: ClassVar[Modality] = "table"

    def fit(self, inputs: NDArray[np.float32], labels: NDArray[np.int8], seed: int) -> Mapping[str, NDArray[Any]]:
        """The trees as arrays (`trees.Forest.arrays`). One thread, so that equal runs have equal bytes.

        Raises `BackdoorError` where a label has fewer than two stays, so that none could be held back.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        options: GBDTOptions = self.options
        rng = np.random.default_rng(seed)
        held_back = _hold_back(labels, options.validation_fraction, rng)
        # scikit-learn fails on a feature without any value. No tree asks for a constant one.
        inputs = np.where(np.isnan(inputs[~held_back]).all(axis=0), np.float32(0), inputs)
        classifier = HistGradientBoostingClassifier(
            early_stopping=True, random_state=int(rng.integers(2**31)), **options.model_dump()
        )
        with threadpool_limits(limits=1):
            classifier.fit(inputs[~held_back], labels[~held_back], X_val=inputs[held_back], y_val=labels[held_back])
        return Forest.of_classifier(classifier).arrays()

    def logits(self, fitted: Mapping[str, NDArray[Any]], inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) log-odds of label 1: the baseline plus one leaf of each tree."""
        return Forest.from_arrays(fitted).logits(inputs)


def _hold_back(labels: NDArray[np.int8], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(N,) which rows decide when to stop: the share of each label, at least one row and never all."""
    held_back = np.zeros(len(labels), dtype=np.bool_)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise BackdoorError(
                f"model gbdt: {len(rows)} of {len(labels)} training stays have label {label}; early stopping holds "
                "some of each label back and needs at least 2"
            )
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        held_back[rng.choice(rows, count, replace=False)] = True
    return held_back
