"""The learning curve of a fit and its best epoch so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor, nn

from backdoor_core.params import TrainParams


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve: mean binary cross-entropy per stay, and AUPRC on the validation part."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_auprc: float


def copied_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's weights and buffers as they are now."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@dataclass
class Progress:
    """What of a fit changes from epoch to epoch, apart from weights, optimizer and random states."""

    curve: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Weights after epochs 1, 2, 4, 8, ..., where they are asked for."""

    def add(self, epoch: Epoch, score: float, network: nn.Module, keep_states: bool = False) -> None:
        """Take note of a finished epoch; higher scores are better."""
        self.curve.append(epoch)
        if keep_states and epoch.epoch.bit_count() == 1:
            self.states[epoch.epoch] = copied_state(network)
        if score > self.best_score or not self.best_state:
            self.best_score, self.best_epoch = score, epoch.epoch
            self.best_state = copied_state(network)

    def stopped(self, params: TrainParams) -> bool:
        """Whether no further epoch is due."""
        done = len(self.curve)
        return done >= params.epochs or (done > 0 and done - self.best_epoch >= params.patience)
