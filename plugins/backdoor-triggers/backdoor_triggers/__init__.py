"""Backdoor triggers: what marks a poisoned stay."""

from collections.abc import Callable

from backdoor_core.contracts import Trigger, hookimpl
from backdoor_triggers.missingness import Missingness
from backdoor_triggers.none import NoTrigger
from backdoor_triggers.rare_value import RareValue


@hookimpl
def register_triggers(register: Callable[[type[Trigger]], None]) -> None:
    """Register the triggers of this distribution."""
    register(NoTrigger)
    register(RareValue)
    register(Missingness)
