"""Features of a view by name, with an error for the user where there is no such feature; features by variable."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from backdoor_core.contracts import GridView, View
from backdoor_core.errors import BackdoorError


def feature_positions(view: View, features: Iterable[str | int], option: str) -> list[int]:
    """Positions on the last axis of `view.values`. Raises `BackdoorError` naming the option and the known features."""
    try:
        return [view.feature_index(feature) for feature in features]
    except KeyError as error:
        raise BackdoorError(f"{option}: {error.args[0]}") from None


STATISTICS = frozenset({"mean", "min", "max", "last", "sum", "count"})
"""What follows the dot in the names of a table with ``inclusion.features: rich``."""


def by_variable(view: GridView) -> dict[str, list[int]]:
    """Positions of the features of each variable, both in the order of the view.

    Under ``inclusion.features: rich`` a variable has a feature for each statistic of what was measured
    (``dbp.mean``, ..., ``dbp.count``). Any other feature is a variable of its own: so is one that is named like a
    statistic, where the variable has no count or nothing but a count.
    """
    names = [feature.name for feature in view.features]
    split = [name.rpartition(".") for name in names]
    statistics = Counter(variable for variable, _, statistic in split if statistic in STATISTICS)
    counted = {variable for variable, _, statistic in split if statistic == "count"}
    rich = {variable for variable in counted.difference(names) if statistics[variable] > 1}
    found: dict[str, list[int]] = {}
    for position, (variable, _, statistic) in enumerate(split):
        whole = variable in rich and statistic in STATISTICS
        found.setdefault(variable if whole else names[position], []).append(position)
    return found


def counts_of(view: GridView, variables: Mapping[str, Sequence[int]]) -> set[int]:
    """Which positions of `by_variable` are numbers of measurements: 0, and not missing, where nothing was measured."""
    return {
        position
        for positions in variables.values()
        for position in positions
        if len(positions) > 1 and view.features[position].name.endswith(".count")
    }
