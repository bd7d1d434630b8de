"""The conformance kit: what must hold for every model, detector and trigger, for plugin authors' own tests.

In the style of scikit-learn's ``parametrize_with_checks``::

    import pytest
    from backdoor_core.testing import detector_checks

    @pytest.mark.parametrize("check", detector_checks(MyDetector))
    def test_conformance(check):
        check()

A component is given as its class (default options) or as an instance. The lists hold the rules that apply to it.
Each rule is a plain function of its own, named after what it checks, in `models`, `array_models`, `detectors` and
`triggers`; it takes the component and raises `AssertionError`. Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backdoor_core.testing.check import Check, bound, made

if TYPE_CHECKING:
    from backdoor_core.contracts import Detector, Feature, Model, Trigger

__all__ = ["Check", "detector_checks", "model_checks", "trigger_checks"]


def model_checks(*models: Model | type[Model]) -> list[Check]:
    """The rules for each model, by whether it is a `TorchModel` or an `ArrayModel` and by its capabilities."""
    from backdoor_core.contracts import ArrayModel, TorchModel
    from backdoor_core.testing import array_models, models as torch_models

    checks: list[Check] = []
    for model in map(made, models):
        if isinstance(model, TorchModel):
            rules = [*torch_models.RULES]
            rules += [rule for capability, rule in torch_models.BY_CAPABILITY if capability in model.capabilities]
            checks += bound(model, rules)
        elif isinstance(model, ArrayModel):
            checks += bound(model, array_models.RULES)
        else:
            raise TypeError(f"{model!r} is neither a TorchModel nor an ArrayModel")
    return checks


def detector_checks(*detectors: Detector | type[Detector]) -> list[Check]:
    """The rules for each detector, by the modalities it declares. They grant it what it `requires`, the truth included.

    Raises `BackdoorError` for a detector of events alone: the made-up cases are tables and series.
    """
    from backdoor_core.testing.detectors import rules_of

    return [check for detector in map(made, detectors) for check in bound(detector, rules_of(detector))]


def trigger_checks(*triggers: Trigger | type[Trigger], features: Sequence[Feature] | None = None) -> list[Check]:
    """The rules for each trigger, on every modality it declares.

    `features` are those of the views it is tried on, for a trigger whose options name features that
    `backdoor_core.testing.views.FEATURES` lacks.
    """
    from backdoor_core.testing.triggers import RULES
    from backdoor_core.testing.views import FEATURES

    chosen = FEATURES if features is None else tuple(features)
    return [check for trigger in map(made, triggers) for check in bound(trigger, RULES, chosen)]
