"""Training anew with preprocessing that extreme values sway less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from backdoor_core.contracts import Options, Repair, RepairCase, Retrained

if TYPE_CHECKING:
    from torch import nn


class RobustScalingOptions(Options):
    """The preprocessing that takes the place of the study's."""

    outliers: Literal["null", "clip", "winsorize"] = Field(
        "null",
        description="null: a value outside the plausible range counts as missing; clip: to the plausible range of each "
        "feature; winsorize: to the quantiles `preprocess.lower` and `preprocess.upper`",
    )
    scaling: Literal["robust", "standard", "quantile"] = Field(
        "robust",
        description="robust: median and interquartile range; standard: mean and standard deviation; quantile: ranks",
    )

    @field_validator("outliers", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: Any) -> Any:
        # YAML reads the bare word null as no value at all.
        return "null" if value is None else value


class RobustScaling(Repair):
    """The same model trained anew on the same rows, with implausible values cut off and a robust scale.

    Of a trigger outside the plausible range nothing is left but that the value is missing or at its limit; a trigger
    within it passes. That can be trigger enough: a feature that is hardly ever missing marks the poisoned stays by
    its missing indicator (`preprocess.missing`). The interquartile range withstands up to a quarter of the rows
    (Rousseeuw & Croux 1993, "Alternatives to the Median Absolute Deviation", JASA 88); a standard deviation follows
    a single extreme value. All else of the study's preprocessing stays, and so does the seed of the training.
    """

    name = "robust_scaling"
    Options = RobustScalingOptions

    def repair(self, case: RepairCase) -> tuple[nn.Module | Retrained, Mapping[str, Any]]:
        """What `case.retrain` gave, and the changed preprocessing."""
        options: RobustScalingOptions = self.options
        changes = {"outliers": options.outliers, "scaling": options.scaling}
        return case.retrain(changes), {"preprocess": changes}
