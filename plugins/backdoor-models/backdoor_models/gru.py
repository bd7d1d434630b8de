"""Gated recurrent unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from backdoor_core.contracts import InputSpec, Modality, TorchModel
from backdoor_models.recurrent import RecurrentOptions

if TYPE_CHECKING:
    from torch import nn


class GRU(TorchModel):
    """Gated recurrent unit over the hours, its last state beside its mean state.

    Cho et al. 2014 (arXiv 1406.1078, section 2.3). Fed with value, mask and time since the last measurement, it is
    the GRU-Simple that GRU-D is measured against (Che et al. 2018, arXiv 1606.01865, section "GRU-RNN for time
    series classification"); the mean over the hours is added.
    """

    name = "gru"
    Options = RecurrentOptions
    modality: ClassVar[Modality] = "series"

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from torch import nn

        from backdoor_models.networks.recurrent import RecurrentNetwork

        options: RecurrentOptions = self.options
        return RecurrentNetwork(nn.GRU, spec.channels, options.hidden, options.layers, options.dropout)
