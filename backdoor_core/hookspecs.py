"""The hooks. A plugin module implements those it needs with `backdoor_core.contracts.hookimpl`.

`register` takes one component class and may be called any number of times.
"""

from collections.abc import Callable

import pluggy

from backdoor_core.contracts import Audit, CohortSource, Corpus, Detector, Explainer, Kind, Model, Repair, Trigger

hookspec = pluggy.HookspecMarker("backdoor_core")


@hookspec
def register_cohorts(register: Callable[[type[CohortSource]], None]) -> None:
    """Register sources of stays."""


@hookspec
def register_triggers(register: Callable[[type[Trigger]], None]) -> None:
    """Register rules that edit a stay's raw data."""


@hookspec
def register_models(register: Callable[[type[Model]], None]) -> None:
    """Register classifiers of stays."""


@hookspec
def register_detectors(register: Callable[[type[Detector]], None]) -> None:
    """Register rankings of training stays by suspicion."""


@hookspec
def register_repairs(register: Callable[[type[Repair]], None]) -> None:
    """Register ways to mend a poisoned model that need no detector."""


@hookspec
def register_explainers(register: Callable[[type[Explainer]], None]) -> None:
    """Register attributions of a model's output to its inputs."""


@hookspec
def register_audits(register: Callable[[type[Audit]], None]) -> None:
    """Register membership-inference attacks."""


@hookspec
def register_corpora(register: Callable[[type[Corpus]], None]) -> None:
    """Register collections of clinical notes."""


HOOKS: dict[str, Kind] = {
    "register_cohorts": "cohort",
    "register_triggers": "trigger",
    "register_models": "model",
    "register_detectors": "detector",
    "register_repairs": "repair",
    "register_explainers": "explainer",
    "register_audits": "audit",
    "register_corpora": "corpus",
}
