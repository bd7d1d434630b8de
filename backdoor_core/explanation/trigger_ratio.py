"""The Trigger Attribution Ratio: how much of what a model looks at is the trigger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from backdoor_core.contracts import Booleans, Floats
from backdoor_core.explanation.folding import by_feature
from backdoor_core.statistics import Estimate, Weights, bootstrap_estimate, mean, ratio, t_quantile

NO_FIGURE: Final = Estimate(None, None, None)


@dataclass(frozen=True)
class Looked:
    """Attributions of the same N stays in raw feature terms, (N, F) or (N, T, F)."""

    triggered: Floats
    """Of the poisoned model, with the trigger."""
    clean: Floats
    """Of the poisoned model, the stays as they are."""
    baseline: Floats
    """Of the clean twin, with the trigger."""
    retrains: tuple[Floats, ...] = ()
    """Of clean retrains with other seeds, with the trigger."""

    def map(self, change: Callable[[Floats], Floats]) -> Looked:
        """The same with every array changed."""
        retrains = tuple(change(values) for values in self.retrains)
        return Looked(change(self.triggered), change(self.clean), change(self.baseline), retrains)


def touched_share(attribution: Floats, touched: Booleans) -> Floats:
    """(N,) share of a row's absolute attribution that lies on its `touched` cells; both (N, F) or (N, T, F).

    NaN where the row has no attribution at all, or no touched cell. `touched` says which cells of each row the
    trigger changed: a mask of poisoned rows in its place would measure nothing. Raises `ValueError` for two shapes.
    """
    if attribution.shape != touched.shape:
        raise ValueError(f"attributions have shape {attribution.shape}, the touched cells {touched.shape}")
    size = np.abs(attribution.astype(np.float64)).reshape(len(attribution), -1)
    cells = touched.reshape(len(touched), -1)
    share = ratio((size * cells).sum(axis=1), size.sum(axis=1))
    share[~cells.any(axis=1)] = np.nan
    return share


def chance_share(touched: Booleans, present: Booleans | None = None) -> Floats:
    """(N,) what `touched_share` is of attributions that are alike everywhere: touched cells over all cells.

    `present` has the shape of `touched` and says which cells there are, where rows differ in it.
    """
    cells = touched.reshape(len(touched), -1)
    there = np.ones_like(cells) if present is None else present.reshape(cells.shape)
    share = ratio(cells.sum(axis=1), there.sum(axis=1))
    return np.where(share > 0, share, np.nan)


def touched_features(touched: Booleans) -> Booleans:
    """(N, F) whether the trigger changed the feature, in any hour."""
    return np.asarray(touched.reshape(len(touched), -1, touched.shape[-1]).any(axis=1))


def recall_at_k(attribution: Floats, touched: Booleans) -> Floats:
    """(N,) share of a row's touched features among its top k by absolute attribution, k being their number.

    Both (N, F) or (N, T, F), attributions summed over hours. Where features tie around place k, what breaking the
    tie by lot gives on average. NaN where the row has no attribution at all, or no touched feature.
    """
    size, cells = by_feature(attribution), touched_features(touched)
    recalls = np.full(len(size), np.nan)
    for row in np.flatnonzero(cells.any(axis=1) & size.any(axis=1)):
        k = int(cells[row].sum())
        least = np.sort(size[row])[-k]
        above, tied = size[row] > least, size[row] == least
        by_lot = (k - above.sum()) / tied.sum()
        recalls[row] = ((cells[row] & above).sum() + by_lot * (cells[row] & tied).sum()) / k
    return recalls


def tar_figures(
    looked: Looked,
    touched: Booleans,
    weights: Weights,
    *,
    touched_clean: Booleans | None = None,
    present: Booleans | None = None,
) -> dict[str, Estimate]:
    """TAR of the triggered stays by cell, beside the twin's, that of the clean stays and chance, and recall at k.

    `touched` (N, F) or (N, T, F), `weights` (replicates, N) resamples of patients. Each figure is the mean over the
    rows where it exists. `tar_lift` is the poisoned model less its twin on the rows where both exist, so that it is
    paired by patient; its interval is of patients alone. `tar_lift_seeds`: see `lift_over_seeds`.

    Where the cells of a stay with the trigger are others than those without it, as events are, `touched_clean` are the
    cells of the clean stays that the trigger changes or removes, and `present` the triggered cells that there are.
    """
    shares = looked.map(lambda values: touched_share(values, touched))
    if touched_clean is not None:
        shares = replace(shares, clean=touched_share(looked.clean, touched_clean))
    rows = {
        "tar": shares.triggered,
        "tar_baseline": shares.baseline,
        "tar_clean": shares.clean,
        "chance": chance_share(touched, present),
        "tar_lift": shares.triggered - shares.baseline,
        "recall_at_k": recall_at_k(looked.triggered, touched),
        "recall_at_k_baseline": recall_at_k(looked.baseline, touched),
        "recall_chance": chance_share(touched_features(touched), present),
    }
    figures = {name: row_mean(values, weights) for name, values in rows.items()}
    figures["tar_lift_seeds"] = lift_over_seeds(shares.triggered, [shares.baseline, *shares.retrains], weights)
    return figures


def lift_over_seeds(share: Floats, clean: Sequence[Floats], weights: Weights) -> Estimate:
    """Mean of `share` (N,) less the mean of m clean models' shares, with a 95% interval that covers the seed.

    Two clean models that differ in their seed alone look at a feature by amounts that differ by far more than the
    resampling of patients tells: an interval of patients calls nearly every pair of them different. This one is the
    prediction interval of one more model among m of its kind (Student's t with m - 1 degrees of freedom, after
    Hahn and Meeker 1991, chapter 4), the variance over resampled patients added to that over models. It takes
    the models' means as normal, and ends at -1 and 1, beyond which no difference of shares lies. On the rows where
    all have a share; no figure for fewer than two clean models.
    """
    known = ~np.isnan(np.stack([share, *clean])).any(axis=0)
    if len(clean) < 2 or not known.any():
        return NO_FIGURE
    models = np.stack([values[known] for values in clean])
    difference = share[known] - models.mean(axis=0)
    value = float(difference.mean())
    resampled = np.asarray(mean(difference, weights[:, known]))
    # A resample of which no row is known has no mean.
    spread = models.mean(axis=1).var(ddof=1) * (1 + 1 / len(models)) + np.nanvar(resampled)
    half = float(t_quantile(len(models) - 1) * np.sqrt(spread))
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def without_attribution(looked: Looked) -> dict[str, int]:
    """For the triggered, the clean and the twin's rows, how many have no attribution at all and so no TAR."""
    sides = {"triggered": looked.triggered, "clean": looked.clean, "baseline": looked.baseline}
    return {name: int((~by_feature(values).any(axis=1)).sum()) for name, values in sides.items()}


def row_mean(values: Floats, weights: Weights) -> Estimate:
    """Mean of (N,) numbers, NaN left out, with its interval over resamples `weights` (replicates, N)."""
    known = ~np.isnan(values)
    if not known.any():
        return NO_FIGURE
    return bootstrap_estimate(
        lambda chosen: mean(values[known], None if chosen is None else chosen[..., known]), weights
    )
