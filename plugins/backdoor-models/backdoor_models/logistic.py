"""Logistic regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from backdoor_core.contracts import InputSpec, Modality, TorchModel

if TYPE_CHECKING:
    from torch import nn


class Logistic(TorchModel):
    """Logistic regression (Cox 1958): one linear unit on the preprocessed channels.

    Fitted by the bench's loop like every torch model; `train.weight_decay` is its L2 penalty. Its penultimate
    activations are its inputs, so that a detector of latent separation sees the plain data.
    """

    name = "logistic"
    modality: ClassVar[Modality] = "table"

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from backdoor_models.networks.feed_forward import LogisticNetwork

        return LogisticNetwork(spec.channels)
