"""The defender's guess of how much is poisoned, for the detectors that remove a fixed number of rows."""

import math

from pydantic import Field

from backdoor_core.contracts import DetectionCase, Need, Options


class BudgetOptions(Options):
    """The budget of the detectors that need one."""

    budget: float = Field(
        0.05,
        gt=0,
        le=1,
        description=(
            "the defender's upper bound on the poisoned share of the whole training part, a guess made without "
            "knowing the true rate; in each label 1.5 times that many rows are removed, at most half of the label"
        ),
    )
    oracle: bool = Field(
        False, description="use the true poisoned share in place of `budget`; the figures are marked as oracle"
    )


def budget_needs(options: BudgetOptions) -> frozenset[Need]:
    """What the budget itself uses of a case: the truth where the oracle is asked, otherwise nothing."""
    return frozenset({"truth"}) if options.oracle else frozenset()


def budgeted_share(case: DetectionCase, options: BudgetOptions) -> float:
    """Share of the whole training part that may be poisoned, 0 to 1; the true one where the oracle is asked."""
    return float(case.truth.mean()) if options.oracle else options.budget


def removed_rows(share: float, rows: int) -> int:
    """1.5 times `share` of `rows`, rounded up."""
    # Rounded first, since 1.5 * 0.05 * 40 is 3.0000000000000004, whose ceiling is not what anyone means.
    return math.ceil(round(1.5 * share * rows, 9))
