"""Backdoor triggers: what marks a poisoned stay."""

from collections.abc import Callable

from backdoor_core.contracts import Trigger, hookimpl
from backdoor_triggers.correlation import Correlation
from backdoor_triggers.event_order import EventOrder
from backdoor_triggers.feature_shift import FeatureShift
from backdoor_triggers.hybrid import Hybrid
from backdoor_triggers.in_range import InRange
from backdoor_triggers.missingness import Missingness
from backdoor_triggers.none import NoTrigger
from backdoor_triggers.rare_event import RareEvent
from backdoor_triggers.rare_value import RareValue
from backdoor_triggers.sampling_pattern import SamplingPattern
from backdoor_triggers.temporal_pattern import TemporalPattern


@hookimpl
def register_triggers(register: Callable[[type[Trigger]], None]) -> None:
    """Register the triggers of this distribution."""
    register(NoTrigger)
    register(RareValue)
    register(Missingness)
    register(Hybrid)
    register(FeatureShift)
    register(InRange)
    register(Correlation)
    register(TemporalPattern)
    register(SamplingPattern)
    register(RareEvent)
    register(EventOrder)
