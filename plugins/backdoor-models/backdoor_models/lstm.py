"""Long short-term memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from backdoor_core.contracts import InputSpec, Modality, TorchModel
from backdoor_models.recurrent import RecurrentOptions

if TYPE_CHECKING:
    from torch import nn


class LSTM(TorchModel):
    """Long short-term memory over the hours, its last state beside its mean state.

    Hochreiter & Schmidhuber 1997 (Neural Computation 9(8)), with the forget gate of Gers et al. 2000. Hourly
    values and masks of the first hours in the ICU follow the benchmark of Harutyunyan et al. 2019
    (arXiv 1703.07771, section "LSTM-based models"), and so does the dropout; the mean over the hours is added.
    """

    name = "lstm"
    Options = RecurrentOptions
    modality: ClassVar[Modality] = "series"

    def build(self, spec: InputSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from torch import nn

        from backdoor_models.networks.recurrent import RecurrentNetwork

        options: RecurrentOptions = self.options
        return RecurrentNetwork(nn.LSTM, spec.channels, options.hidden, options.layers, options.dropout)
