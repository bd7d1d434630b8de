"""What the output loses when an input takes the value of another row."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Attribution, Capability, ExplainCase, Explainer, Modality, Options
from backdoor_core.errors import BackdoorError

from .answers import answer
from .groups import BY_HELP, By, group_of_input, losses, predicted, spread


class PermutationOptions(Options):
    """Options of permutation."""

    by: By = Field("cell", description=BY_HELP)
    repeats: int = Field(5, ge=1, description="donors drawn for each row")
    donors: Literal["rows", "baselines"] = Field(
        "rows",
        description="whose values are taken: other explained rows, or the baselines. What all explained rows share, "
        "as a trigger that sets a value, gets 0 among `rows`",
    )


class Permutation(Explainer):
    """What the log-odds lose when a feature takes the value it has in another row: the mean over some donors.

    Breiman 2001 ("Random Forests", Machine Learning 45, section 10) and Fisher et al. 2019 (arXiv 1801.01489,
    section 3), for each row's output in place of the loss over all rows. All channels of a group come from one donor,
    drawn with replacement among the other rows and shared by all groups of a row, so that their losses compare.
    A group's loss stands in equal shares on its inputs: they sum to it. Needs predictions only.

    A feature with one value in all rows gets 0, whatever the model does with it: a trigger that writes one value into
    every explained row is invisible with `donors: rows`. Explain triggered rows with `donors: baselines`.
    """

    name = "permutation"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})
    Options = PermutationOptions
    requires: frozenset[Capability] = frozenset()

    def attribute(self, case: ExplainCase) -> Attribution:
        """Losses by group, spread on the inputs; no delta. Raises `BackdoorError` for a single row without donors."""
        options: PermutationOptions = self.options
        group, groups = group_of_input(self.name, case, options.by)
        donors = self._donors(case)
        outputs = predicted(case)
        lost = np.zeros((len(outputs), groups))
        for drawn in donors:
            pool = case.inputs if options.donors == "rows" else case.baselines
            lost += losses(case, group, groups, pool[drawn], outputs)
        details = {"by": options.by, "groups": groups, "repeats": options.repeats, "donors": options.donors}
        return answer(self.name, case, spread(lost / options.repeats, group), details=details)

    def _donors(self, case: ExplainCase) -> NDArray[np.int64]:
        """(repeats, N) position of each row's donor in the pool, never the row itself."""
        rows, shape = len(case.inputs), (self.options.repeats, len(case.inputs))
        if self.options.donors == "baselines":
            return case.rng.integers(len(case.baselines), size=shape)
        if rows == 1:
            raise BackdoorError(
                "explainer permutation: there is 1 row to explain and no other to take values from; give 2 or more, "
                "or donors: baselines"
            )
        drawn = case.rng.integers(max(rows - 1, 1), size=shape)
        return drawn + (drawn >= np.arange(rows))
