"""The section `notes` of params.yaml: what a language model leaks of the notes it was trained on."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Recipe = Literal["baseline", "regularized", "dp"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScratchParams(_Section):
    """The small GPT-2 that is trained from nothing."""

    layers: int = Field(2, ge=1, le=48, description="transformer layers")
    width: int = Field(128, ge=8, le=4096, description="width of the layers, a multiple of heads")
    heads: int = Field(4, ge=1, le=64, description="attention heads")
    vocabulary: int = Field(1024, ge=300, le=60_000, description="most tokens of the byte-level BPE")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class RegularizedParams(_Section):
    """The recipe `regularized`."""

    learning_rate: float = Field(5e-4, gt=0, le=1, description="AdamW's step size")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of activations that are dropped")
    epochs: int | None = Field(None, ge=1, description="most epochs; null is that of notes.epochs")
    gap: float | None = Field(
        0.1,
        gt=0,
        description="stop before the NLL of the stopping part exceeds that of the members by more than this share of "
        "it; null does not stop",
    )


class PrivateParams(_Section):
    """The recipe `dp`: differentially private training."""

    epsilon: float = Field(8.0, gt=0, allow_inf_nan=False, description="privacy budget of one note")
    delta: float = Field(1e-5, gt=0, lt=1, description="chance that it does not hold; well below 1 / members")
    max_grad_norm: float = Field(1.0, gt=0, allow_inf_nan=False, description="a note's gradient is clipped to this")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="AdamW's step size")
    batch_size: int = Field(64, ge=1, description="expected notes a step")
    epochs: int | None = Field(None, ge=1, description="passes over the members; null is that of notes.epochs")
    canaries: int = Field(
        200, ge=0, le=10_000, description="sequences of random tokens for the one-run audit of epsilon; 0 does without"
    )


class NotesParams(_Section):
    """What a language model leaks of the notes it was trained on."""

    corpus: str = Field("simple", description="source of the notes")
    model: str = Field(
        "scratch", min_length=1, description="scratch, or a Hugging Face causal language model by id or folder"
    )
    recipe: tuple[Recipe, ...] = Field(
        ("baseline", "regularized"), min_length=1, description="how it is trained; one, or a list to compare"
    )
    seeds: int = Field(
        3, ge=1, le=100, description="models a recipe, each with its own members; pooled for the verdict"
    )
    epochs: int = Field(10, ge=1, le=1000, description="passes over the members")
    batch_size: int = Field(16, ge=1, le=4096, description="notes a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="AdamW's step size in the recipe baseline")
    max_tokens: int = Field(256, ge=8, le=100_000, description="of a longer note the first tokens only are used")
    tokenizer: float = Field(
        0.05, gt=0, lt=1, description="share of the notes, by patient, that the tokenizer is trained on: never audited"
    )
    stopping: float = Field(
        0.1, gt=0, lt=1, description="share of the notes, by patient, for early stopping: never audited either"
    )
    members: float = Field(0.7, gt=0, lt=1, description="share of the other notes, by patient, that are trained on")
    lora: int = Field(
        0, ge=0, le=1024, description="rank of LoRA adapters for a Hugging Face model; 0 trains all weights"
    )
    scratch: ScratchParams = ScratchParams()
    regularized: RegularizedParams = RegularizedParams()
    dp: PrivateParams = PrivateParams()
    audits: tuple[str, ...] = Field(
        ("loss_threshold", "min_k", "min_k_plus_plus", "zlib", "blind", "untrained"),
        min_length=1,
        description="what tells members from others; blind and untrained are controls",
    )
    audit_options: dict[str, dict[str, Any] | None] = Field(
        {"blind": {"source": "texts"}, "lira": {"statistic": "loss"}}, description="their options, by audit"
    )
    neighbors: int = Field(
        10,
        ge=1,
        le=1000,
        description="altered copies of each note, where an audit compares with them",
    )
    references: int = Field(
        4,
        ge=2,
        le=1024,
        multiple_of=2,
        description="models a recipe on random halves of the notes, where an audit compares with them",
    )
    texts: bool = Field(False, description="whether the results hold the notes themselves")
    workers: int = Field(2, ge=1, le=256, description="models trained at the same time, one thread each")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")

    @field_validator("recipe", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _parts_and_names(self) -> Self:
        if self.tokenizer + self.stopping >= 1:
            raise ValueError("tokenizer and stopping leave no note; together they must be below 1")
        for key, names in (("recipe", self.recipe), ("audits", self.audits)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{key} lists {', '.join(twice)} more than once")
        return self
