"""Transformer over clinical events with their texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backdoor_core.contracts import Capability, EventModel, EventSpec, Options, TextEncoder, Training

if TYPE_CHECKING:
    from torch import nn

_SIZES = {
    "small": {"width": 16, "layers": 1, "heads": 1, "feed_forward": 32, "hidden": (64, 32)},
    "base": {"width": 256, "layers": 4, "heads": 8, "feed_forward": 512, "hidden": (256, 128)},
}


class EventTransformerOptions(Options):
    """Text encoder and shape of the network. A number that is given replaces that of the size."""

    size: Literal["small", "base"] = Field(
        "small", description="small: width 16, 1 layer, 1 head; base: width 256, 4 layers, 8 heads, for a GPU"
    )
    width: int | None = Field(None, ge=1, description="width of an event's token; both kinds of heads must divide it")
    layers: int | None = Field(None, ge=1, description="encoder layers")
    heads: int | None = Field(None, ge=1, description="attention heads of each layer")
    feed_forward: int | None = Field(None, ge=1, description="width of a layer's hidden part")
    pooling_heads: int = Field(4, ge=1, description="heads of the attention pooling")
    hidden: tuple[int, ...] | None = Field(
        None, min_length=1, description="widths of the hidden layers after the static columns are joined"
    )
    encoder_dropout: float = Field(0.0, ge=0, lt=1, description="share of the encoder's activations dropped")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of hidden activations dropped after the pooling")
    max_events: int = Field(512, ge=1, description="of a longer stay, the last events that are read")
    recency_weight: float = Field(
        0.0, ge=0, description="weight of the loss in which each event predicts the label, later ones weighing more"
    )
    recency_halflife: float = Field(
        6.0, gt=0, description="hours before the stay's last event at which an event weighs half as much in that loss"
    )
    snapshot_every: int = Field(
        0, ge=0, description="keep how the pooling heads weigh each type of event, every so many batches; 0 never"
    )
    text: str = Field(
        "hashing", min_length=1, description="text encoder: hashing, minilm, or a Hugging Face id or local folder"
    )
    text_revision: str | None = Field(None, description="commit or tag of the Hugging Face weights")
    text_tokens: int | None = Field(None, ge=1, description="most tokens of a text; by default the encoder's limit")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for name in ("heads", "pooling_heads"):
            if self.shape("width") % self.shape(name):
                raise ValueError(f"{name} should divide width, and {self.shape(name)} does not {self.shape('width')}")
        return self

    def shape(self, name: str) -> int:
        """A number of the shape: as given, or that of the size."""
        given = getattr(self, name)
        found: int = _SIZES[self.size][name] if given is None else given
        return found


class EventTransformer(EventModel):
    """Transformer encoder over a stay's events: type, text, value and time of each; attention pooling.

    The encoder of Vaswani et al. 2017 (arXiv 1706.03762), pre-norm, over clinical events with a learned query that
    pools them, as the pooling by multi-head attention of Lee et al. 2019 (Set Transformer, arXiv 1810.00825, section
    3.2). An event's text goes through a frozen text encoder. Static columns (age, sex, admission) join after the
    pooling.
    """

    name = "event_transformer"
    Options = EventTransformerOptions
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"embedding", "gradient", "attention"})

    @property
    def training(self) -> Training:
        """Of the small size more and larger steps: five such epochs reach what twenty of the usual ones do."""
        options: EventTransformerOptions = self.options
        return Training(epochs=5, batch_size=64, learning_rate=0.007) if options.size == "small" else Training()

    @property
    def max_events(self) -> int:
        """Of a longer stay, the last events that are read."""
        options: EventTransformerOptions = self.options
        return options.max_events

    def text_encoder(self) -> TextEncoder:
        """The chosen one; see `backdoor_models.text`."""
        from backdoor_models.text import text_encoder

        options: EventTransformerOptions = self.options
        return text_encoder(
            options.text, revision=options.text_revision, max_tokens=options.text_tokens, root=Path(self.context.root)
        )

    def build(self, spec: EventSpec) -> nn.Module:
        """A freshly initialized network; see the contract."""
        from backdoor_models.networks.events import EventShape, EventTransformerNetwork

        options: EventTransformerOptions = self.options
        hidden = _SIZES[options.size]["hidden"] if options.hidden is None else options.hidden
        shape = EventShape(
            width=options.shape("width"),
            layers=options.shape("layers"),
            heads=options.shape("heads"),
            feed_forward=options.shape("feed_forward"),
            pooling_heads=options.pooling_heads,
            hidden=tuple(hidden),
            encoder_dropout=options.encoder_dropout,
            dropout=options.dropout,
            recency_weight=options.recency_weight,
            recency_halflife=options.recency_halflife,
            snapshot_every=options.snapshot_every,
        )
        return EventTransformerNetwork(spec, shape)
