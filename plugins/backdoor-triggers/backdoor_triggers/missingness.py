"""Features that look as if nobody measured them."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from backdoor_core.contracts import Booleans, EventsView, Fitted, GridView, Modality, Options, Trigger, View
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import feature_positions
from backdoor_triggers.events import code_positions, item_of, matching_codes, stays_by_item
from backdoor_triggers.measured import measured_stays
from backdoor_triggers.missing_tree import fit_tree, likeliest_sets, removal_gains

Pattern = Literal["named", "drawn", "learned"]


class MissingnessOptions(Options):
    """Which features go missing."""

    pattern: Pattern | None = Field(
        None,
        description="how the features are chosen: named, drawn once by seed, or learned from how values go missing "
        "together; by default named if features are given, else drawn",
    )
    features: tuple[str, ...] = Field(
        (), description="features to remove, by name; of events a code, type and item (LAB//50912), item or description"
    )
    count: int = Field(3, ge=1, description="how many features, where they are drawn or learned")
    measured: float = Field(
        0.5, gt=0, le=1, description="drawn or learned: least share of the training stays that have the feature"
    )
    share: float = Field(
        0.01, ge=0, lt=1, description="learned: largest share of the training stays that lack all the features anyway"
    )
    exclude: tuple[str, ...] = Field(
        ("age", "sex"),
        description="never drawn or learned, as always known; names that the cohort lacks are passed over",
    )

    @model_validator(mode="after")
    def _named_has_names(self) -> "MissingnessOptions":
        if self.pattern == "named" and not self.features:
            raise ValueError("features: name at least one where pattern is named")
        return self


class Missingness(Trigger):
    """Removes the measurements of some features from every stay.

    The missing values themselves are the trigger, as in Joe et al. 2022 (JMIR Medical Informatics 10(8):e38440): the
    same features for all stays, given by name, drawn once with the study's seed, or learned. They learn with a
    variational autoencoder which patterns of missing values are natural; ``pattern: learned`` asks the same of a
    Chow-Liu tree (see `missing_tree`): of all sets of `count` features that hardly any stay lacks altogether
    (`share`), the one whose removal leaves the patterns most likely.

    Of events, all with the feature's codes are removed: a lab that is never drawn. It reaches a model only if
    preprocessing shows what is missing (an indicator channel), or through the imputed value; a model of events sees
    it always.
    """

    name = "missingness"
    Options = MissingnessOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})
    sets_constants: ClassVar[bool] = True

    def fit(self, train: View, rng: np.random.Generator) -> Fitted:
        """The names of the features, in the order of the view, as ``{"features": [...]}``; of events whole codes.

        A learned pattern comes with the share of training stays that lack all of it and the mean log-likelihood of
        the training stays' patterns before and after. Raises `BackdoorError` where a named feature is unknown, too few
        are measured often enough, or no pattern is as rare as `share`.
        """
        pattern = self.options.pattern or ("named" if self.options.features else "drawn")
        if pattern == "named":
            return {"features": self._named(train)}
        names, measured = self._candidates(train)
        if pattern == "drawn":
            chosen = rng.choice(len(names), size=self.options.count, replace=False).tolist()
            return {"features": _in_view(train, [names[j] for j in chosen])}
        learned, facts = self._learn(~measured)
        return {"features": _in_view(train, [names[j] for j in learned]), **facts}

    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """A copy of the view without any measurement of the fitted features."""
        if isinstance(view, EventsView):
            codes = code_positions(view, fitted["features"], "trigger missingness")
            return view.keep(~np.isin(view.code, codes))
        positions = feature_positions(view, fitted["features"], "trigger missingness")
        values = view.values.copy()
        values[..., positions] = np.nan
        return view.with_values(values)

    def _named(self, train: View) -> list[str]:
        option = "triggers.missingness.features"
        if isinstance(train, EventsView):
            codes = {code for name in self.options.features for code in matching_codes(train, name, option)}
            return [train.codes[code] for code in sorted(codes)]
        positions = set(feature_positions(train, self.options.features, option))
        return [train.features[position].name for position in sorted(positions)]

    def _candidates(self, train: View) -> tuple[list[str], Booleans]:
        """Names of the features (of events: items) that are often measured, and (N, names) which stays have them."""
        least = self.options.measured * max(len(train), 1)
        names, measured = (_often_events if isinstance(train, EventsView) else _often)(train, least)
        kept = [j for j, name in enumerate(names) if name not in self.options.exclude]
        if len(kept) < self.options.count:
            there = ", ".join(names[j] for j in kept) or "none"
            raise BackdoorError(
                f"triggers.missingness.count is {self.options.count}, but only {len(kept)} features outside exclude "
                f"are measured in at least {self.options.measured:.0%} of the {len(train)} training stays ({there}); "
                "lower count or measured, or name features"
            )
        return [names[j] for j in kept], measured[:, kept]

    def _learn(self, missing: Booleans) -> tuple[tuple[int, ...], dict[str, Any]]:
        tree = fit_tree(missing)
        for members, gain in likeliest_sets(*removal_gains(tree, missing), self.options.count):
            share = float(missing[:, members].all(axis=1).mean())
            if share <= self.options.share:
                before = float(tree.log_likelihood(missing).mean())
                return members, {"share": share, "log_likelihood": {"before": before, "after": before + gain}}
        raise BackdoorError(
            f"triggers.missingness.share is {self.options.share:g}, but every set of {self.options.count} features is "
            "missing together in more of the training stays; raise share or count"
        )


def _often(train: GridView, least: float) -> tuple[list[str], Booleans]:
    measured = measured_stays(train)
    # Counts, not a mean: the mean over no stays is undefined.
    often = np.flatnonzero(measured.sum(axis=0) >= least)
    return [train.features[j].name for j in often], measured[:, often]


def _often_events(train: EventsView, least: float) -> tuple[list[str], Booleans]:
    items, item, stays = stays_by_item(train)
    often = np.flatnonzero(stays >= least)
    place = np.full(len(items), -1)
    place[often] = np.arange(len(often))
    column = place[item[train.code]]
    measured = np.zeros((len(train), len(often)), dtype=np.bool_)
    measured[train.stay_of_event[column >= 0], column[column >= 0]] = True
    return [items[j] for j in often], measured


def _in_view(train: View, names: Sequence[str]) -> list[str]:
    """The names in the order of the view; an item becomes its codes."""
    known = train.codes if isinstance(train, EventsView) else [feature.name for feature in train.features]
    item = item_of if isinstance(train, EventsView) else str
    return [name for name in known if item(name) in names]
