"""What preprocessing made of a trigger: how far it lies, in scaled units, before the outlier rule and after it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cohort.preprocess import Preprocessor
from backdoor_core.contracts import Booleans, GridView

Numbers = NDArray[np.floating[Any]]


def exposure(
    preprocessor: Preprocessor,
    clean: GridView,
    triggered: GridView,
    touched: Booleans,
    *,
    reads_missing: bool = False,
) -> list[dict[str, Any]]:
    """One entry for each touched feature, in the order of the view; JSON-able. All figures are over touched cells.

    `clean` and `triggered` are the same stays, `touched` says in the shape of their values which cells the trigger
    changed. Distances are medians of absolute scaled units, 0 being the feature's center; for a cell that holds a
    value after triggering:

    - ``before``: (value - center) / scale as if nothing were limited; under quantile scaling, whose scale ends at
      5.2, with mean and standard deviation
    - ``after``: the model's value channel; of what ``outliers: null`` removes, that is the stand-in for missing
    - ``clipped``, ``nulled``: share of these cells that the outlier rule moved to a limit, or made missing

    And of the cells that the trigger removed, ``removed_to``: the median of the value channel (what stands there
    instead: the median, the sentinel, or the value carried forward in a series). ``moved`` is the median absolute
    change of the value channel over all touched cells, ``indicator`` the share of them whose missing channel the
    trigger changed, None without such a channel. Cells of a series that change only because something else is
    carried forward into them are not counted. None stands for the median of no cells.

    A model that `reads_missing`, as trees do, has nothing in place of a missing value where the preprocessing shows
    what is missing: such cells count in `indicator` alone.
    """
    if not len(clean):
        return []
    inputs = [_inputs(preprocessor, view, reads_missing) for view in (clean, triggered)]
    limited = preprocessor.limited(triggered).values
    rows = []
    for j in np.flatnonzero(touched.reshape(-1, touched.shape[-1]).any(axis=0)).tolist():
        cells = touched[..., j]
        value, kept = triggered.values[..., j][cells], limited[..., j][cells]
        seen = [x[..., j][cells] for x in inputs]
        holds = ~np.isnan(value)
        raw = (value.astype(np.float64) - preprocessor.center[j]) / preprocessor.scale[j]
        rows.append(
            {
                "feature": triggered.features[j].name,
                "cells": len(value),
                "removed": int((~holds).sum()),
                "before": _median(np.abs(raw[holds])),
                "after": _median(np.abs(seen[1][holds])),
                "clipped": _share((kept != value)[holds & ~np.isnan(kept)], int(holds.sum())),
                "nulled": _share(np.isnan(kept[holds]), int(holds.sum())),
                "removed_to": _median(seen[1][~holds]),
                "moved": _median(np.abs(seen[1] - seen[0])),
                "indicator": _indicator_change(preprocessor, inputs, cells, j),
            }
        )
    return rows


def _inputs(preprocessor: Preprocessor, view: GridView, reads_missing: bool) -> NDArray[np.float32]:
    """Channels as `transform` has them, the value channel NaN where the model reads that a value is missing."""
    inputs, width = preprocessor.transform(view), len(preprocessor.features)
    if reads_missing and preprocessor.indicators:
        inputs[..., :width][inputs[..., width : 2 * width] == 1] = np.nan
    return inputs


def _indicator_change(
    preprocessor: Preprocessor, inputs: list[NDArray[np.float32]], cells: Booleans, feature: int
) -> float | None:
    if not preprocessor.indicators:
        return None
    channel = len(preprocessor.features) + feature
    before, after = (x[..., channel][cells] for x in inputs)
    return float((before != after).mean())


def _median(values: Numbers) -> float | None:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def _share(part: Booleans, whole: int) -> float | None:
    return float(part.sum()) / whole if whole else None
