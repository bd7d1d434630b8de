"""Features that look as if nobody measured them."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from backdoor_core.contracts import Booleans, EventsView, Fitted, GridView, Modality, Options, Trigger, View
from backdoor_core.errors import BackdoorError
from backdoor_triggers.columns import by_variable, counts_of, feature_positions
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
        (),
        description="features to remove, by name; of a table of rich features a variable (dbp), which means all its "
        "statistics; of events a code, type and item (LAB//50912), item or description",
    )
    count: int = Field(
        3, ge=1, description="how many features (of rich ones: variables), where they are drawn or learned"
    )
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

    Of a table with ``inclusion.features: rich`` whole variables go missing: all statistics of one (``dbp.mean``,
    ``dbp.last``, ...), and its number of measurements is 0, as where nobody measured it.

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
        the training stays' patterns before and after. Raises `BackdoorError` where a named feature is unknown or is
        one of a variable's statistics without the others, too few are measured often enough, or no pattern is as rare
        as `share`.
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
        """A copy of the view without any measurement of the fitted features; a number of measurements is then 0."""
        if isinstance(view, EventsView):
            codes = code_positions(view, fitted["features"], "trigger missingness")
            return view.keep(~np.isin(view.code, codes))
        positions = feature_positions(view, fitted["features"], "trigger missingness")
        values = view.values.copy()
        values[..., positions] = np.nan
        values[..., sorted(counts_of(view, by_variable(view)).intersection(positions))] = 0
        return view.with_values(values)

    def _named(self, train: View) -> list[str]:
        option = "triggers.missingness.features"
        if isinstance(train, EventsView):
            codes = {code for name in self.options.features for code in matching_codes(train, name, option)}
            return [train.codes[code] for code in sorted(codes)]
        variables = by_variable(train)
        positions: set[int] = set()
        for name in self.options.features:
            positions.update(variables.get(name) or feature_positions(train, [name], option))
        for variable, of in variables.items():
            if 0 < len(positions.intersection(of)) < len(of):
                alone = ", ".join(train.features[position].name for position in of if position in positions)
                raise BackdoorError(
                    f"{option}: {alone} without the other statistics of {variable}, but all of them are missing where "
                    f"one is; name {variable}"
                )
        return [train.features[position].name for position in sorted(positions)]

    def _candidates(self, train: View) -> tuple[list[str], Booleans]:
        """Names of the features (of events: items) that are often measured, and (N, names) which stays have them."""
        least = self.options.measured * max(len(train), 1)
        names, measured = (_often_events if isinstance(train, EventsView) else _often)(train, least)
        excluded = set(self.options.exclude)
        if not isinstance(train, EventsView):
            # A statistic that is never to go missing keeps its variable.
            statistics = by_variable(train).items()
            excluded |= {name for name, of in statistics if excluded.intersection(train.features[j].name for j in of)}
        kept = [j for j, name in enumerate(names) if name not in excluded]
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
    variables = by_variable(train)
    # A number of measurements is there even where it is 0.
    counts = counts_of(train, variables)
    features = measured_stays(train)
    measured = np.zeros((len(train), len(variables)), dtype=np.bool_)
    for j, of in enumerate(variables.values()):
        measured[:, j] = features[:, [position for position in of if position not in counts]].any(axis=1)
    # Counts, not a mean: the mean over no stays is undefined.
    often = np.flatnonzero(measured.sum(axis=0) >= least)
    names = list(variables)
    return [names[j] for j in often], measured[:, often]


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
    """The names in the order of the view; an item becomes its codes, a variable its features."""
    if isinstance(train, EventsView):
        return [code for code in train.codes if item_of(code) in names]
    chosen = [position for name, of in by_variable(train).items() if name in names for position in of]
    return [train.features[position].name for position in sorted(chosen)]
