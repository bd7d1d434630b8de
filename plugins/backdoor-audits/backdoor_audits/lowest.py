"""The mean of the lowest values of each text: what the Min-K audits share."""

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Floats

_ROUNDING = 1e-9


def mean_of_lowest(values: Floats, offsets: NDArray[np.int64], share: float) -> Floats:
    """(N,) mean of the lowest max(1, floor(share * T)) of the T values of each text, values (E,), offsets (N + 1,).

    At least one value counts however short the text: the mean of none would be NaN. A text without values is not
    allowed.
    """
    lengths = np.diff(offsets)
    text = np.repeat(np.arange(len(lengths)), lengths)
    ordered = values[np.lexsort((values, text))]
    # 0.29 * 100 is a little under 29 in binary.
    counts = np.maximum(1, np.floor(share * lengths + _ROUNDING)).astype(np.int64)
    place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths)
    lowest = np.where(place < np.repeat(counts, lengths), ordered, 0)
    means: Floats = np.add.reduceat(lowest, offsets[:-1]) / counts
    return means
