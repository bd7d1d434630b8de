"""Features that look as if nobody measured them."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Fitted, Modality, Options, Trigger, View
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import feature_positions

MEASURED = 0.5
"""A feature is drawn only if at least this share of the training stays has it: else its absence marks nothing."""


class MissingnessOptions(Options):
    """Which features go missing: the named ones, else some drawn once."""

    features: tuple[str, ...] = Field((), description="features to remove, by name; where given, count has no effect")
    count: int = Field(3, ge=1, description="how many features to draw where none is named")
    exclude: tuple[str, ...] = Field(
        ("age", "sex"), description="never drawn, as always known; names that the cohort lacks are passed over"
    )


class Missingness(Trigger):
    """Removes the measurements of some features from every stay.

    The missing values themselves are the trigger, as in Joe et al. 2022 (JMIR Medical Informatics 10(8):e38440),
    who learn a natural-looking pattern with a variational autoencoder. Here the pattern is simpler: the same features
    for all stays, given by name or drawn once with the study's seed. `features` wins over `count`. It reaches a model
    only if preprocessing shows what is missing (an indicator channel), or through the imputed value.
    """

    name = "missingness"
    Options = MissingnessOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})

    def fit(self, train: View, rng: np.random.Generator) -> Fitted:
        """The names of the features, in the order of the view, as ``{"features": [...]}``.

        Drawn uniformly among the features that at least half of the training stays have measured (a series: at any
        hour), less `exclude`. Raises `BackdoorError` where a named feature is unknown or too few can be drawn.
        """
        if self.options.features:
            chosen = set(feature_positions(train, self.options.features, "triggers.missingness.features"))
        else:
            chosen = self._draw(train, rng)
        return {"features": [train.features[position].name for position in sorted(chosen)]}

    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """A copy of the view with NaN in the fitted features of every stay."""
        positions = feature_positions(view, fitted["features"], "trigger missingness")
        values = view.values.copy()
        values[..., positions] = np.nan
        return view.with_values(values)

    def _draw(self, train: View, rng: np.random.Generator) -> set[int]:
        measured = ~np.isnan(train.values)
        per_stay = measured.any(axis=tuple(range(1, measured.ndim - 1)))
        # Counts, not a mean: the mean over no stays is undefined.
        enough = per_stay.sum(axis=0) >= MEASURED * max(len(train), 1)
        names = [feature.name for feature in train.features]
        eligible = [j for j, name in enumerate(names) if enough[j] and name not in self.options.exclude]
        count = self.options.count
        if len(eligible) < count:
            there = ", ".join(names[j] for j in eligible) or "none"
            raise BackdoorError(
                f"triggers.missingness.count is {count}, but only {len(eligible)} features outside exclude are "
                f"measured in at least half of the {len(train)} training stays ({there}); lower count or name features"
            )
        return {int(j) for j in rng.choice(eligible, size=count, replace=False)}
