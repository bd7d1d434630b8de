"""Boosted trees as plain arrays: stored without pickle, evaluated without scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Forest:
    """The nodes of all trees, one tree after the other. A leaf is its own left and right child."""

    feature: NDArray[np.int32]
    """(nodes,) position of the feature that a node asks."""
    threshold: NDArray[np.float64]
    """(nodes,) a value up to this goes left."""
    missing_left: NDArray[np.bool_]
    """(nodes,) whether a missing value goes left."""
    left: NDArray[np.int32]
    """(nodes,) position of the left child among all nodes."""
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    """(nodes,) what a leaf adds to the log-odds."""
    root: NDArray[np.int32]
    """(trees,) position of each tree's first node."""
    depth: NDArray[np.int32]
    """() most questions on a way from root to leaf."""
    baseline: NDArray[np.float64]
    """() log-odds before the first tree."""

    @classmethod
    def of_classifier(cls, classifier: HistGradientBoostingClassifier) -> Self:
        """The trees of a fitted binary classifier without categorical features.

        scikit-learn has no public access to the nodes; the private one is held to `decision_function` by a test.
        """
        trees = [predictor.nodes for (predictor,) in classifier._predictors]
        nodes = np.concatenate(trees)
        sizes = np.array([len(tree) for tree in trees])
        root = np.cumsum(sizes) - sizes
        offset, own, leaf = np.repeat(root, sizes), np.arange(len(nodes)), nodes["is_leaf"].astype(np.bool_)
        return cls(
            feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
            threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
            missing_left=nodes["missing_go_to_left"].astype(np.bool_),
            left=np.where(leaf, own, nodes["left"] + offset).astype(np.int32),
            right=np.where(leaf, own, nodes["right"] + offset).astype(np.int32),
            value=np.where(leaf, nodes["value"], 0.0),
            root=root.astype(np.int32),
            depth=np.array(nodes["depth"].max(), dtype=np.int32),
            baseline=np.array(classifier._baseline_prediction, dtype=np.float64).reshape(()),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) log-odds for inputs (N, F), NaN being missing."""
        parts = [self._logits(inputs[start : start + _ROWS_AT_ONCE]) for start in range(0, len(inputs), _ROWS_AT_ONCE)]
        return np.concatenate([np.empty(0), *parts])

    def _logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        row = np.arange(len(inputs))[:, np.newaxis]
        node = np.broadcast_to(self.root, (len(inputs), len(self.root)))
        for _ in range(int(self.depth)):
            asked = inputs[row, self.feature[node]]
            goes_left = np.where(np.isnan(asked), self.missing_left[node], asked <= self.threshold[node])
            node = np.where(goes_left, self.left[node], self.right[node])
        total: NDArray[np.float64] = self.baseline + self.value[node].sum(axis=1)
        return total
