"""Small cohorts made in memory, with a planted signal so that models have something to learn."""

import numpy as np

from backdoor_core.contracts import Feature, TableView

FEATURES = tuple(
    Feature(name=name, unit=unit, low=low, high=high)
    for name, unit, low, high in [
        ("age", "years", 18, 120),
        ("sex", "0=F 1=M", 0, 1),
        ("heart_rate", "bpm", 1, 300),
        ("sbp", "mmHg", 1, 300),
        ("resp_rate", "insp/min", 1, 70),
        ("lactate", "mmol/L", 0.1, 50),
    ]
)


def make_view(n: int, seed: int = 0) -> tuple[TableView, np.ndarray]:
    """n stays with plausible values, about 30% of lactate missing, and a label that lactate and age drive."""
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [
            rng.normal(65, 12, n).clip(18, 100),
            rng.integers(0, 2, n),
            rng.normal(85, 15, n).clip(30, 200),
            rng.normal(118, 17, n).clip(50, 220),
            rng.normal(19, 4, n).clip(6, 50),
            rng.lognormal(0.6, 0.5, n),
        ]
    ).astype(np.float32)
    risk = 1.2 * (np.log(values[:, 5]) - 0.6) / 0.5 + 0.8 * (values[:, 0] - 65) / 12 - 2
    label = (rng.random(n) < 1 / (1 + np.exp(-risk))).astype(np.int8)
    values[rng.random(n) < 0.3, 5] = np.nan
    return TableView(stay_id=np.arange(1000, 1000 + n), features=FEATURES, values=values), label
