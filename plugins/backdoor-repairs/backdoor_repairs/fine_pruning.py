"""Fine-pruning: silence units that clean stays leave idle, then go on training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from backdoor_core.contracts import Modality, Options, Repair, RepairCase, Retrained

if TYPE_CHECKING:
    from torch import nn


class FinePruningOptions(Options):
    """Options of fine-pruning."""

    prune: float = Field(0.3, ge=0, lt=1, description="share of the penultimate units to silence; 0 only fine-tunes")
    epochs: int = Field(5, ge=0, description="passes of the fine-tuning over its rows; 0 only prunes")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Adam's step size in the fine-tuning; null is that of the study"
    )
    batch_size: int = Field(
        32, ge=1, description="stays per step of the fine-tuning; small, as there are few trusted stays"
    )


class FinePruning(Repair):
    """Prunes the penultimate units that are least active on clean stays, then fine-tunes.

    Liu, Dolan-Gavitt & Garg 2018, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
    arXiv 1805.12185, sections 4.1 to 4.3. Units of the input of the last linear layer are put in the order of their
    mean absolute activation, which for the paper's ReLU units is the mean activation; a tie goes to the first. The
    share `prune` of them, rounded to whole units, gets weight 0 in the last layer and keeps it while all other
    weights are fine-tuned with Adam on the cross-entropy.

    Both steps use the trusted stays where the study grants some. Otherwise they use the whole training part, poison
    included: the paper's defender has clean rows, and without them the fine-tuning teaches the trigger again. The
    details say which. The paper prunes until the accuracy on held-out rows falls by some points; a fixed share in
    its place needs no such rows, and reports the same for every model.
    """

    name = "fine_pruning"
    Options = FinePruningOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})

    def repair(self, case: RepairCase) -> tuple[nn.Module | Retrained, Mapping[str, Any]]:
        """The pruned and fine-tuned network, which rows were used, and how idle the pruned units were.

        Raises `BackdoorError` where the network's last linear layer cannot be found, or the fine-tuning diverges.
        """
        from backdoor_repairs.pruning import fine_prune

        options: FinePruningOptions = self.options
        rate = options.learning_rate or case.learning_rate
        return fine_prune(case, options.prune, options.epochs, rate, options.batch_size)
