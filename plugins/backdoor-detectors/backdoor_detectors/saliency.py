from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Context, Detection, DetectionCase, Detector, Options
from backdoor_core.errors import BackdoorError

from .grids import VALUES_AT_ONCE, grid_of
from .outliers import Floats, high_outliers


class SaliencyOptions(Options):
    """Options of saliency."""

    score: Literal["concentration", "magnitude"] = Field(
        "concentration",
        description="concentration: share of a row's attribution on its k largest features; magnitude: gradient norm",
    )
    k: int = Field(3, ge=1, description="number of features whose share the concentration is")
    deviations: float = Field(
        3.0, gt=0, description="flag above median + this many robust standard deviations (MAD x 1.4826) of the label"
    )


class Saliency(Detector):
    """How much of a row's attribution falls on few features, or how large its gradient is.

    Simonyan et al. 2014, "Deep Inside Convolutional Networks", arXiv 1312.6034, section 3: the saliency of an
    input is the absolute gradient of the logit by it; `magnitude` is its Euclidean norm. `concentration` first
    multiplies the gradient by the input's distance from the median input of the label (gradient x input, Shrikumar
    et al. 2016, arXiv 1605.01713, with a reference) and takes the absolute value, adds up what belongs to the same
    feature (values, missing indicators, hours), and scores a row by the share of its `k` largest features. The
    thought is that of SentiNet (Chou et al. 2020, arXiv 1812.00292): a trigger of few features carries the
    decision alone.

    A row without any attribution (at the median everywhere, or with a gradient of 0) has concentration 0, and a
    missing input counts as no attribution. With `k` features or fewer, every share is 1 and tells nothing.

    A share is a share in any model; the norm of a gradient grows with the model's weights, so `magnitude` is not
    `absolute`.
    """

    name = "saliency"
    Options = SaliencyOptions
    modalities = frozenset({"table", "series"})

    def __init__(self, options: SaliencyOptions, context: Context) -> None:
        super().__init__(options, context)
        self.requires = frozenset({"labels", "gradient"})
        self.absolute = options.score == "concentration"
        if options.score == "concentration":
            self.requires = self.requires | {"inputs"}

    def detect(self, case: DetectionCase) -> Detection:
        """Score every row and flag the outliers of each label; `details` names the features that lead most often."""
        options: SaliencyOptions = self.options
        gradient, labels = case.gradient, case.labels
        broken = int((~np.isfinite(gradient)).reshape(len(gradient), -1).any(axis=1).sum())
        if broken:
            raise BackdoorError(
                f"detector {self.name}: the model's gradients are not finite for {broken} of {len(gradient)} training "
                "stays; the model must be trained without diverging (a lower learning rate, scaled inputs)"
            )
        details: dict[str, Any] = {"score": options.score}
        if options.score == "magnitude":
            scores = _norms(gradient)
        else:
            features = grid_of(case, self.name).features
            attribution = np.empty((len(labels), len(features)))
            for label in np.unique(labels):
                rows = np.flatnonzero(labels == label)
                attribution[rows] = feature_attribution(case.inputs[rows], gradient[rows], len(features))
            scores = concentration(attribution, options.k)
            leading = np.bincount(attribution[scores > 0].argmax(axis=1), minlength=len(features))
            order = np.argsort(-leading, kind="stable")[:5]
            details["leading_feature_rows"] = {features[j].name: int(leading[j]) for j in order if leading[j]}
            if len(features) <= options.k:
                details["skipped"] = f"{len(features)} features: the share of the largest {options.k} is always 1"
        flagged, details["labels"] = high_outliers(scores, labels, options.deviations)
        return Detection(scores, flagged, details)


def feature_attribution(
    inputs: NDArray[np.float32], gradient: NDArray[np.float32], features: int, reference: Floats | None = None
) -> Floats:
    """(N, F) sum over channels and hours of |gradient x (input - reference)|.

    `inputs` and `gradient` are (N, channels) or (N, T, channels), the last axis being blocks of one channel per
    feature; `reference`, the shape of one input, is by default their median (of what is not NaN).
    """
    reference = _median_input(inputs) if reference is None else reference
    attribution = np.empty((len(inputs), features))
    at_once = max(1, VALUES_AT_ONCE // max(1, reference.size))
    for start in range(0, len(inputs), at_once):
        rows = slice(start, start + at_once)
        product = np.abs(gradient[rows].astype(np.float64) * (inputs[rows].astype(np.float64) - reference))
        parts = np.nan_to_num(product, copy=False, nan=0.0)
        attribution[rows] = parts.reshape(len(parts), -1, features).sum(axis=1)
    return attribution


def concentration(attribution: Floats, k: int) -> Floats:
    """(N,) share of each row's `k` largest values in the sum of the row (N, F); 0 where the sum is 0."""
    total = attribution.sum(axis=1)
    k = min(k, attribution.shape[1])
    largest = np.sort(attribution, axis=1)[:, attribution.shape[1] - k :].sum(axis=1)
    shares: Floats = np.divide(largest, total, out=np.zeros(len(total)), where=total > 0)
    return shares


def _median_input(inputs: NDArray[np.float32]) -> Floats:
    # One place at a time: a median over all of a large series at once would copy it twice.
    columns = inputs.reshape(len(inputs), -1)
    medians = np.zeros(columns.shape[1])
    for j in range(columns.shape[1]):
        present = columns[:, j][~np.isnan(columns[:, j])]
        if len(present):
            medians[j] = np.median(present.astype(np.float64))
    return medians.reshape(inputs.shape[1:])


def _norms(gradient: NDArray[np.float32]) -> Floats:
    flat = gradient.reshape(len(gradient), -1)
    norms: Floats = np.sqrt(np.einsum("nd,nd->n", flat, flat, dtype=np.float64))
    return norms
