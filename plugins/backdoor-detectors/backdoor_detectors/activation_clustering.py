from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options

from .activations import Floats, finite_activations, medians, one_thread, principal_directions
from .cluster_rules import Clusters, nearness_to_another, reclassified, shares_of, silhouette, smaller_cluster
from .two_means import two_means


class ActivationClusteringOptions(Options):
    """Options of activation clustering. Ten dimensions by ICA are the paper's, the thresholds common use."""

    dimensions: int = Field(10, ge=1, description="directions that the activations are reduced to before clustering")
    reduce: Literal["ica", "pca"] = Field(
        "ica",
        description="ica: unit variance in every direction, as independent components have; pca: not scaled",
    )
    rule: Literal["relative_size", "silhouette", "distance", "exclusionary"] = Field(
        "relative_size", description="what makes a cluster suspicious; exclusionary trains one more model per label"
    )
    size_threshold: float = Field(
        0.35,
        gt=0,
        le=0.5,
        description="relative_size, silhouette: flag the smaller cluster where its share of the label is below this",
    )
    silhouette_threshold: float = Field(
        0.1, ge=-1, le=1, description="silhouette: and where the mean silhouette of the label is at least this"
    )
    exclusion_threshold: float = Field(
        1.0, gt=0, description="exclusionary: flag where own-label over other-label classifications are below this"
    )


class ActivationClustering(Detector):
    """Two clusters of activations per training label, one of them suspicious (Chen et al. 2018).

    "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", arXiv 1811.03728. Rows are split
    by their training label as given, not by the model's prediction; the activations are reduced and parted in two by
    k-means (`two_means`; of a label of more than 5,000 rows, 5,000 random ones choose where it starts).
    The rule then says which cluster is poison (section 4), and the score, equal for all rows of a cluster:

    - relative_size: the smaller one, if small enough. Score: 1 minus its share of the label; 0 for a cluster that is
      not small enough, since which half of an even split is a little smaller means nothing.
    - silhouette: the smaller one, if small enough, and if the clusters are well apart. Score: 1 minus its share times
      the label's mean silhouette, 0 if negative; 0 for all others. The silhouette is that of at most 1,000 rows of a
      label, some drawn at random.
    - distance: whose median activation lies nearer to the median of another label than to that of its own (the rule
      of the Adversarial Robustness Toolbox). Score: its distance from its own over the sum of both; 0.5 is the cut.
    - exclusionary: the smaller one, if the victim gives at least half of its rows their own label and a model trained
      without it gives most of them another. Score: the share of its rows to which that model gives another label; 0
      for the larger cluster, which no model was trained without.

    Independent components are principal components of unit variance, rotated. A rotation changes no distance, and
    k-means sees nothing else: so `reduce: ica` leaves the rotation out, and with it FastICA's iterations.

    A label with at most ``2 * dimensions`` rows is left out (score 0, no flag): whitened, so few rows lie about
    equally far apart, and a small cluster means nothing. So are equal rows, and by distance a label without another.
    """

    name = "activation_clustering"
    absolute = True
    Options = ActivationClusteringOptions

    def __init__(self, options: ActivationClusteringOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.rule == "exclusionary":
            self.requires = self.requires | {"retrain", "predict"}

    def detect(self, case: DetectionCase) -> Detection:
        """Score and flag every row; `details` holds the cluster sizes of each label or why it was left out."""
        options: ActivationClusteringOptions = self.options
        activations, labels = finite_activations(case, self.name), case.labels
        seed = int(case.rng.integers(2**31 - 1))  # one for all labels: what is drawn must not depend on their order
        scores, flagged = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.bool_)
        details: dict[str, Any] = {}
        names = np.unique(labels)
        rows_of = [np.flatnonzero(labels == name) for name in names]
        centers = np.stack([medians(activations, rows) for rows in rows_of]) if options.rule == "distance" else None
        with one_thread():
            clustered = [_cluster_label(activations, rows, options, seed) for rows in rows_of]
        for place, (label, rows) in enumerate(zip(names, rows_of, strict=True)):
            points, clusters, facts = clustered[place]
            details[str(label)] = facts
            if clusters is None:
                continue
            if options.rule == "exclusionary":
                scores[rows], flagged[rows], found = self._exclude(case, rows, clusters)
            elif centers is None:
                scores[rows], flagged[rows], found = self._by_size(points, clusters, seed)
            elif len(names) > 1:
                places = np.stack([medians(activations, rows[clusters == k]) for k in (0, 1)])
                nearness = nearness_to_another(places, centers, place)
                scores[rows], flagged[rows], found = nearness[clusters], nearness[clusters] > 0.5, {}
            else:
                facts["skipped"] = "no other label to be near to"
                continue
            facts["cluster_sizes"] = sorted(np.bincount(clusters, minlength=2).tolist())
            facts |= {"flagged": int(flagged[rows].sum())} | found
        return Detection(scores, flagged, {"labels": details})

    def _by_size(
        self, points: Floats, clusters: Clusters, seed: int
    ) -> tuple[Floats, NDArray[np.bool_], dict[str, Any]]:
        """Scores (n,), flags (n,) and facts of one label by relative size, and by silhouette where that is the rule."""
        options: ActivationClusteringOptions = self.options
        shares = shares_of(clusters)[clusters]
        flagged: NDArray[np.bool_] = shares < options.size_threshold
        # Calibrated flags compare with null runs: all rows of a half of 48% would lie above those of one of 49%.
        scores = np.where(flagged, 1 - shares, 0.0)
        if options.rule == "relative_size":
            return scores, flagged, {}
        import sklearn.metrics  # noqa: F401  here, since `one_thread` holds for libraries already loaded

        with one_thread():
            apart = silhouette(points, clusters, seed)
        well = apart >= options.silhouette_threshold
        return max(apart, 0.0) * scores, flagged & well, {"silhouette": apart}

    def _exclude(
        self, case: DetectionCase, rows: NDArray[np.intp], clusters: Clusters
    ) -> tuple[Floats, NDArray[np.bool_], dict[str, Any]]:
        """Scores (n,), flags (n,) and facts of one label by a model trained without its smaller cluster."""
        options: ActivationClusteringOptions = self.options
        smaller, label = smaller_cluster(clusters), int(case.labels[rows[0]])
        keep = np.ones(len(case.labels), dtype=np.bool_)
        keep[rows[smaller]] = False
        as_own, as_other = reclassified(case.retrained(keep)[~keep], label)
        before, _ = reclassified(case.logits[~keep], label)
        # What the victim itself does not give the label, as most rows of a rare one, no exclusion can take it from.
        held = before * 2 >= int(smaller.sum())
        flagged = smaller & (as_own < options.exclusion_threshold * as_other) & held
        facts = {"as_own": as_own, "as_other": as_other, "as_own_before": before}
        return np.where(smaller, as_other / (as_own + as_other), 0.0), flagged, facts


def _cluster_label(
    activations: NDArray[np.float32], rows: NDArray[np.intp], options: ActivationClusteringOptions, seed: int
) -> tuple[Floats, Clusters | None, dict[str, Any]]:
    """The reduced rows (n, d) of one label, the cluster, 0 or 1, of each and the facts; no clusters if left out."""
    facts: dict[str, Any] = {"rows": len(rows)}
    nothing = np.zeros((len(rows), 0))
    if len(rows) <= 2 * options.dimensions:
        return nothing, None, facts | {"skipped": f"{2 * options.dimensions} rows or fewer"}
    directions = principal_directions(activations, rows)
    if directions.rank == 0:
        return nothing, None, facts | {"skipped": "all activations are equal"}
    points = directions.project(options.dimensions)
    facts["dimensions"] = dimensions = points.shape[1]
    if options.reduce == "ica":
        points /= np.sqrt(directions.variances[:dimensions])
    return points, two_means(points, points, seed), facts
