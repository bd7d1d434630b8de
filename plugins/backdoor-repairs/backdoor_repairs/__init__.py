"""Repairs of a poisoned model that need no detector."""

from collections.abc import Callable

from backdoor_core.contracts import Repair, hookimpl
from backdoor_repairs.dp_sgd import DPSGD
from backdoor_repairs.fine_pruning import FinePruning
from backdoor_repairs.robust_scaling import RobustScaling


@hookimpl
def register_repairs(register: Callable[[type[Repair]], None]) -> None:
    """Register every repair of this distribution."""
    for repair in (FinePruning, RobustScaling, DPSGD):
        register(repair)
