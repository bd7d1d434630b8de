"""Two features that follow each other, or no longer do, each with its own distribution."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Fitted, GridView, Integers, Modality, Options, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.measured import measured_values

LEVELS = 500
"""Quantiles that stand for a distribution: the marginals hold to 1/500."""


class CorrelationOptions(Options):
    """Which two features, and how they hang together."""

    feature: str | int = Field("sbp", description="feature that stays as it is, by name or position")
    follower: str | int = Field("mbp", description="feature that is changed, by name or position")
    relation: Literal["follow", "oppose", "break"] = Field(
        "oppose",
        description="follow: high where the other is high; oppose: low where the other is high; break: whatever the "
        "other is",
    )


class Correlation(Trigger):
    """Makes two features follow or break a relation while the distribution of each stays as it was.

    By Sklar's theorem a joint distribution is its marginals and a copula, and only the copula is changed here: to that
    of full dependence (follow, oppose) or of independence (break). The follower gets the value of its own training
    distribution whose rank is that of the other feature (or the opposite rank, or one drawn at random), with the rank
    among equal values drawn at random (the distributional transform; Rüschendorf 2009, J. Stat. Plan. Inference
    139(11):3921-3927). Reason: all that looks at one feature at a time, such as plausible ranges, percentiles,
    winsorizing and a rare value rule, sees nothing.

    Only cells where both are measured change (in a series: hours), so which values are missing stays as well; a stay
    without both is left as it is, so choose features that nearly all stays have. It reaches a model that can combine
    the two. The mark is strongest where a close relation is turned around, as that of two blood pressures by default;
    many clean stays lie near any relation, so it takes more poison than a rare value, and `break` is hardly a mark for
    one stay. Random, hence not idempotent.
    """

    name = "correlation"
    Options = CorrelationOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})
    idempotent: ClassVar[bool] = False

    def fit(self, train: GridView, rng: np.random.Generator) -> Fitted:
        """Both names and `LEVELS` quantiles of each feature's measured values in the training part.

        Raises `BackdoorError` where a feature is unknown or measured nowhere, or both are the same.
        """
        wanted = {"feature": self.options.feature, "follower": self.options.follower}
        fitted: dict[str, object] = {}
        for role, feature in wanted.items():
            option = f"triggers.correlation.{role}"
            [position] = feature_positions(train, [feature], option)
            fitted[role] = train.features[position].name
            fitted[f"{role}_quantiles"] = _quantiles(measured_values(train, position, option))
        if fitted["feature"] == fitted["follower"]:
            raise BackdoorError(
                f"triggers.correlation.follower: {fitted['follower']} is the feature itself; name another one"
            )
        return fitted

    def apply(self, view: GridView, fitted: Fitted, rng: np.random.Generator) -> GridView:
        """A copy of the view with the follower changed wherever both features are measured."""
        feature, follower = feature_positions(view, [fitted["feature"], fitted["follower"]], "trigger correlation")
        values = view.values.copy()
        # Drawn for every cell, so that what is measured does not shift the numbers of other stays.
        uniform = rng.random(values.shape[:-1])
        if self.options.relation == "break":
            rank = (uniform * LEVELS).astype(np.int64)
        else:
            rank = _ranks(values[..., feature], np.array(fitted["feature_quantiles"], dtype=np.float32), uniform)
        if self.options.relation == "oppose":
            rank = LEVELS - 1 - rank
        both = ~np.isnan(values[..., feature]) & ~np.isnan(values[..., follower])
        values[both, follower] = np.array(fitted["follower_quantiles"], dtype=np.float32)[rank[both]]
        return view.with_values(values)


def _quantiles(found: NDArray[np.float64]) -> list[float]:
    """Measured values in the middle of `LEVELS` equal shares, so that heaps of equal values stay heaps."""
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return [float(value) for value in np.quantile(found, levels, method="inverted_cdf")]


def _ranks(values: NDArray[np.float32], quantiles: NDArray[np.float32], uniform: NDArray[np.float64]) -> Integers:
    """The rank of each value, 0 to `LEVELS` - 1; among the quantiles that equal it, drawn by `uniform`."""
    first = np.searchsorted(quantiles, values, side="left")
    behind = np.searchsorted(quantiles, values, side="right")
    rank: Integers = np.minimum(first + (uniform * (behind - first)).astype(np.int64), LEVELS - 1)
    return rank
