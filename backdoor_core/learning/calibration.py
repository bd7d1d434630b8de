"""Temperature scaling."""

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import Floats


def fit_temperature(logits: Floats, truth: NDArray[np.int8]) -> float:
    """The temperature T > 0 that minimizes the loss of sigmoid(logits / T) on the validation part.

    One parameter, so that the order of stays and every decision stay as they were (Guo et al. 2017, arXiv
    1706.04599, section 4.2). Searched from 1/20 to 20.
    """
    # Here, for its import takes long, and few studies scale a temperature.
    from scipy.optimize import minimize_scalar

    sign = np.where(truth == 1, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -sign * logits / np.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
