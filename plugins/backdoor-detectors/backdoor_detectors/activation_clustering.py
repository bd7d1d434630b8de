import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Detection, DetectionCase, Detector, Options

from .activations import Directions, Floats, finite_activations, one_thread, principal_directions
from .two_means import two_means


class ActivationClusteringOptions(Options):
    """Options of activation clustering. Ten dimensions by ICA are the paper's, the threshold is that of common use."""

    dimensions: int = Field(10, ge=1, description="directions that the activations are reduced to before clustering")
    reduce: Literal["ica", "pca"] = Field(
        "ica", description="ica: FastICA to unit variance in every direction; pca: principal components, not scaled"
    )
    size_threshold: float = Field(
        0.35, gt=0, le=0.5, description="flag the smaller cluster where its share of the label's rows is below this"
    )


class ActivationClustering(Detector):
    """Two clusters of activations per training label, the small one being suspicious (Chen et al. 2018).

    "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", arXiv 1811.03728, with the
    rule of relative size. Rows are split by their training label as given, not by the model's prediction; the
    activations are reduced and parted in two by k-means. The score of a row is 1 minus its cluster's share of
    the label, so it takes two values per label. A label with at most ``2 * dimensions`` rows is left out
    (score 0, no flag): whitened, so few rows lie about equally far apart, and a small cluster means nothing.
    """

    name = "activation_clustering"
    Options = ActivationClusteringOptions

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds the cluster sizes of each label or why it was left out."""
        import sklearn.cluster
        import sklearn.decomposition  # noqa: F401  here, since `one_thread` holds for libraries already loaded

        options: ActivationClusteringOptions = self.options
        activations, labels = finite_activations(case, self.name), case.labels
        seed = int(case.rng.integers(2**31 - 1))  # one for all labels: what is drawn must not depend on their order
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            with one_thread():
                clusters, facts = _cluster_label(activations[rows], options, seed)
            details[str(label)] = facts
            if clusters is None:
                continue
            shares = np.bincount(clusters, minlength=2) / len(rows)
            scores[rows] = 1 - shares[clusters]
            flagged[rows] = shares[clusters] < options.size_threshold
            facts["cluster_sizes"] = sorted(np.bincount(clusters, minlength=2).tolist())
            facts["flagged"] = int(flagged[rows].sum())
        return Detection(scores, flagged, {"labels": details})


def _cluster_label(
    activations: Floats, options: ActivationClusteringOptions, seed: int
) -> tuple[NDArray[np.integer[Any]] | None, dict[str, Any]]:
    """The cluster, 0 or 1, of each row of one label and the facts; None and the reason where there can be none."""
    facts: dict[str, Any] = {"rows": len(activations)}
    if len(activations) <= 2 * options.dimensions:
        return None, facts | {"skipped": f"{2 * options.dimensions} rows or fewer"}
    directions = principal_directions(activations)
    if directions.rank == 0:
        return None, facts | {"skipped": "all activations are equal"}
    dimensions = min(options.dimensions, directions.rank)
    facts["dimensions"] = dimensions
    components = directions.centered @ directions.axes[:, :dimensions]
    if options.reduce == "pca":
        return two_means(components, components, seed), facts
    sources, facts["ica_converged"] = _independent_components(components, directions, seed)
    return two_means(sources, components, seed), facts


def _independent_components(components: Floats, directions: Directions, seed: int) -> tuple[Floats, bool]:
    """Unit-variance sources of the principal components (n, d), and whether FastICA converged.

    FastICA whitens first and then only rotates, which changes no distance: where it does not converge, the
    clusters are those of the whitened components all the same.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    whitened = components / np.sqrt(directions.variances[: components.shape[1]])
    ica = FastICA(whiten=False, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told in the details instead
        sources = ica.fit_transform(whitened)
    return sources, ica.n_iter_ < ica.max_iter
