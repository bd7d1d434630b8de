"""Options that the recurrent models share."""

from pydantic import Field

from backdoor_core.contracts import Options


class RecurrentOptions(Options):
    """Shape of a recurrent network."""

    hidden: int = Field(64, ge=1, description="width of the state")
    layers: int = Field(1, ge=1, description="recurrent layers, one on top of the other")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of states dropped in training, pooled or between layers")
