from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options

from .activations import Floats, one_thread, principal_directions
from .robust import spread
from .spaces import Space, points_of, space_needs


class KnnLabelOptions(Options):
    """Options of the label disagreement among neighbors."""

    space: Space = Field("latent", description="latent: penultimate activations; input: what the model reads")
    neighbors: int = Field(10, ge=1, description="number of nearest neighbors")
    dimensions: int = Field(10, ge=1, le=20, description="principal directions in which distances are taken")
    reference: int = Field(5000, ge=2, description="rows among which neighbors are sought, at most; drawn at random")
    threshold: float = Field(0.5, gt=0, le=1, description="flag from this share of disagreeing neighbors")


class KnnLabel(Detector):
    """How many of the nearest neighbors have another label (Wilson's editing, 1972).

    "Asymptotic properties of nearest neighbor rules using edited data", IEEE Trans. SMC 2, section II: a row that
    its neighbors outvote is dropped. With a label of 12% that would be most of that label whatever it looks like,
    so every vote is divided by the prevalence of its label: the score is the share of the votes, so weighed, that
    disagree, and is 0.5 on average where space says nothing of the label. A row is flagged where the weighed share
    and the plain one both reach the threshold. It finds labels that were flipped among patients left as they were;
    poison that forms its own cluster has neighbors of its own label, and scores low by design.

    Distances are Euclidean in the first ten principal directions (inputs in units of their robust spread, see
    `spaces.points_of` for missing values and series), among a random 5,000 of the rows where there are more. A row is
    never its own neighbor. Rows at equal distance count as the search tree lists them. Rows of one label only, one
    row, or equal rows score 0 and are not flagged.
    """

    name = "knn_label"
    absolute = True
    Options = KnnLabelOptions

    def __init__(self, options: KnnLabelOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = space_needs(options.space)

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` tells of the reference rows and directions, or what was left out."""
        import sklearn.neighbors  # noqa: F401  here, since `one_thread` holds for libraries already loaded

        options: KnnLabelOptions = self.options
        points, labels = points_of(case, options.space, self.name), case.labels
        details: dict[str, Any] = {"space": options.space, "rows": len(labels)}
        with one_thread():
            reduced = _reduced(points, options)
            skipped = _reason(reduced, labels)
            if skipped:
                nothing = np.zeros(len(labels))
                return Detection(nothing, nothing.astype(np.bool_), details | {"skipped": skipped})
            reference = np.arange(len(labels))
            if len(labels) > options.reference:
                reference = np.sort(case.rng.choice(len(labels), options.reference, replace=False))
            neighbors = _nearest(reduced, reference, options.neighbors)
        plain = (labels[neighbors] != labels[:, np.newaxis]).mean(axis=1)
        _, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
        own = counts[position] / len(labels)
        against, for_it = plain / (1 - own), (1 - plain) / own
        scores = against / (against + for_it)
        flagged = (scores >= options.threshold) & (plain >= options.threshold)
        details |= {"reference": len(reference), "neighbors": neighbors.shape[1], "dimensions": reduced.shape[1]}
        return Detection(scores, flagged, details | {"flagged": int(flagged.sum())})


def _reduced(points: Floats, options: KnnLabelOptions) -> Floats:
    """(N, d) the principal components of points (N, D), d of at most `dimensions`; d is 0 where all are equal."""
    if options.space == "input":
        scale = spread(points)
        points = points[:, scale > 0] / scale[scale > 0]
    if points.shape[1] == 0:
        return np.zeros((len(points), 0))
    return principal_directions(points).project(options.dimensions)


def _reason(reduced: Floats, labels: NDArray[np.integer[Any]]) -> str | None:
    """Why no row has neighbors to compare with, or None."""
    if len(np.unique(labels)) < 2:
        return "rows of one label only"
    return None if reduced.shape[1] else "all rows are equal"


def _nearest(points: Floats, reference: NDArray[np.intp], neighbors: int) -> NDArray[np.intp]:
    """(N, k) rows of the nearest among `reference` of each of the points (N, d), itself left out."""
    from sklearn.neighbors import KDTree

    count = min(neighbors, len(reference) - 1)
    found = reference[KDTree(points[reference]).query(points, count + 1, return_distance=False)]
    own = found == np.arange(len(points))[:, np.newaxis]
    own[~own.any(axis=1), -1] = True  # not in the reference, or behind its duplicates: the farthest goes instead
    others: NDArray[np.intp] = found[~own].reshape(len(points), count)
    return others
