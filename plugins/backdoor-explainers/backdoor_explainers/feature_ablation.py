"""What the output loses when an input takes the value of the baseline."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Attribution, Capability, ExplainCase, Explainer, Options

from .answers import answer
from .groups import BY_HELP, By, group_of_input, losses, predicted, spread


class FeatureAblationOptions(Options):
    """Options of feature_ablation."""

    by: By = Field("cell", description=BY_HELP)


class FeatureAblation(Explainer):
    """What the log-odds lose when a feature takes the value of the baseline, one feature at a time.

    Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901, section 4.2) on groups of inputs: all channels of a feature are
    replaced at once, since a value without its missing indicator is no input the model ever sees. With several
    baselines it is the mean loss. A group's loss stands in equal shares on its inputs: they sum to it.
    Needs predictions only. Written out, since Captum's multiplies by a mask of 0 and 1, which turns a whole row to
    NaN where one value is missing, as it may be for trees; without missing values the two agree.
    """

    name = "feature_ablation"
    Options = FeatureAblationOptions
    requires: frozenset[Capability] = frozenset()

    def attribute(self, case: ExplainCase) -> Attribution:
        """Losses by group, spread on the inputs; no delta. Raises `BackdoorError` for hours of a table."""
        options: FeatureAblationOptions = self.options
        group, groups = group_of_input(self.name, case, options.by)
        outputs = predicted(case)
        lost = np.zeros((len(outputs), groups))
        for baseline in case.baselines:
            lost += losses(case, group, groups, np.broadcast_to(baseline, case.inputs.shape), outputs)
        details = {"by": options.by, "groups": groups, "baselines": len(case.baselines)}
        return answer(self.name, case, spread(lost / len(case.baselines), group), details=details)
