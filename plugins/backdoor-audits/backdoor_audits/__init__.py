"""Audits of what a model leaks of the records it was trained on, and the controls to read them against."""

from collections.abc import Callable

from backdoor_core.contracts import Audit, hookimpl

from .blind import Blind
from .lira import Lira
from .loss_threshold import LossThreshold
from .min_k import MinK
from .min_k_plus_plus import MinKPlusPlus
from .neighborhood import Neighborhood
from .reference import Reference
from .rmia import Rmia
from .untrained import Untrained
from .zlib_entropy import ZlibEntropy


@hookimpl
def register_audits(register: Callable[[type[Audit]], None]) -> None:
    """Register the audits of this distribution."""
    for audit in (
        Blind,
        Lira,
        LossThreshold,
        MinK,
        MinKPlusPlus,
        Neighborhood,
        Reference,
        Rmia,
        Untrained,
        ZlibEntropy,
    ):
        register(audit)
