"""params.yaml, read and checked: the one description of a study."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from backdoor_core.contracts import Inclusion, Kind, Model, TorchModel, Training
from backdoor_core.errors import BackdoorError
from backdoor_core.notes_params import NotesParams as NotesParams
from backdoor_core.sweep_params import SweepParams as SweepParams
from backdoor_core.validation import one_line

OptionMaps = dict[str, dict[str, Any] | None]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitParams(_Section):
    """Shares of the patients in each part."""

    train: float = Field(0.70, gt=0, lt=1, description="share of patients to learn from")
    validation: float = Field(0.15, gt=0, lt=1, description="share for early stopping and the decision threshold")
    test: float = Field(0.15, gt=0, lt=1, description="share for every reported figure")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            total = self.train + self.validation + self.test
            raise ValueError(f"train, validation and test must sum to 1, they sum to {total:g}")
        return self


class PoisonParams(_Section):
    """What the attacker does to the training part."""

    rate: float = Field(0.02, ge=0, le=0.5, description="poisoned share of the training stays: 0, or 0.0001 to 0.5")
    count: int | None = Field(None, ge=0, description="number of poisoned stays; used in place of rate when given")
    target: Literal[0, 1] = Field(1, description="the label that the trigger is to call forth")
    labels: Literal["flip", "clean"] = Field(
        "flip",
        description="flip: take stays of another label and relabel them; clean: take stays of the target, labels stay",
    )
    mode: Literal["replace", "add"] = Field(
        "replace", description="replace: edit the stays in place; add: edit copies and leave the stays themselves"
    )
    selection: Literal["random", "near_boundary", "target_class"] = Field(
        "random",
        description="which stays: at random, nearest to a clean surrogate's decision threshold, or of the target label",
    )
    cover_rate: float = Field(
        0.0, ge=0, le=0.5, description="share of the training stays that get the trigger and keep their true labels"
    )

    @model_validator(mode="after")
    def _rate_in_range(self) -> Self:
        if 0 < self.rate < 0.0001:
            raise ValueError(f"rate {self.rate:g} is too small: 0, or between 0.0001 and 0.5")
        return self


class PreprocessParams(_Section):
    """How the victim turns raw values into model inputs."""

    fit_on: Literal["poisoned", "clean"] = Field(
        "poisoned", description="rows that limits, medians and scales are learned from: those the victim has, or clean"
    )
    outliers: Literal["keep", "winsorize", "clip", "null"] = Field(
        "winsorize",
        description="keep: pass values through; winsorize: clip to the limits below, per feature; clip: to the "
        "plausible range of each feature; null: a value outside the plausible range counts as missing",
    )
    lower: float = Field(0.001, ge=0, lt=0.5, description="quantile of the training part that is the lower limit")
    upper: float = Field(0.999, gt=0.5, le=1, description="quantile that is the upper limit")
    scaling: Literal["standard", "robust", "quantile"] = Field(
        "standard",
        description="standard: mean and standard deviation; robust: median and interquartile range; quantile: ranks "
        "among the training part, as a normal distribution",
    )
    missing: Literal["indicator", "median", "sentinel"] = Field(
        "indicator",
        description="indicator: median and one channel per feature that says missing; median: median only; sentinel: "
        "the constant below, which in a series is not carried forward",
    )
    sentinel: float = Field(
        -5.0, allow_inf_nan=False, description="what stands for a missing value in scaled units, where missing asks it"
    )

    @field_validator("outliers", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: Any) -> Any:
        # YAML reads the bare word null as no value at all.
        return "null" if value is None else value


class _TrainingLoop(_Section):
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay; 0 is plain Adam")
    monitor: Literal["loss", "auprc"] = Field(
        "loss", description="what of the validation part decides the best epoch: lowest loss, or highest AUPRC"
    )
    patience: int = Field(5, ge=1, description="stop after this many epochs without a better one")
    pos_weight: Annotated[float, Field(gt=0)] | Literal["balanced"] = Field(
        1.0, description="weight of the positive stays in the loss; balanced is negatives / positives"
    )
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; null does not clip")
    schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description="learning rate over the epochs; cosine falls from the full rate in the first one toward 0, which "
        "comes after the last one",
    )
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: automatic mixed precision, GPU only")
    checkpoints: bool = Field(
        True, description="keep the weights after epochs 1, 2, 4, 8, ...; detectors of the training's course need them"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N or mps")
    threads: int = Field(1, ge=1, le=256, description="CPU threads; 1 is fastest for small models and safe under load")


_Epochs = Annotated[int, Field(ge=1, le=10_000)]
_BatchSize = Annotated[int, Field(ge=1)]
_LearningRate = Annotated[float, Field(gt=0, le=1)]
_Auto = Literal["auto"]


class TrainParams(_TrainingLoop):
    """The training loop of one model."""

    epochs: _Epochs = Training.epochs
    batch_size: _BatchSize = Training.batch_size
    learning_rate: _LearningRate = Training.learning_rate


class TrainSection(_TrainingLoop):
    """The training loop, of which some is left to the model."""

    epochs: _Epochs | _Auto = Field("auto", description="most passes over the training part; auto is the model's own")
    batch_size: _BatchSize | _Auto = Field("auto", description="stays per step; auto is the model's own")
    learning_rate: _LearningRate | _Auto = Field("auto", description="Adam's step size; auto is the model's own")

    def of(self, model: Model) -> TrainParams:
        """The section with the model's own numbers where it says `auto`."""
        own = asdict(model.training if isinstance(model, TorchModel) else Training())
        left = {key: value for key, value in own.items() if getattr(self, key) == "auto"}
        return TrainParams(**{**self.model_dump(), **left})


class EvaluateParams(_Section):
    """How figures are made."""

    threshold: Literal["prevalence", "youden", "f1"] = Field(
        "prevalence",
        description="rule that sets the decision threshold on validation data: call as many positive as there are, "
        "maximize sensitivity + specificity, or maximize F1",
    )
    calibration: Literal["none", "temperature"] = Field(
        "none", description="temperature: divide the logits by the one number that fits the validation part best"
    )
    replicates: int = Field(1000, ge=100, le=100_000, description="bootstrap resamples of patients for each interval")


class DetectionParams(_Section):
    """What detectors may use beside the training part, and how their scores become flags."""

    nulls: int = Field(
        3, ge=0, le=100, description="clean retrains whose scores are the null distribution; 0 does without p-values"
    )
    fdr: float = Field(0.05, gt=0, lt=1, description="false-discovery rate of the calibrated flags")
    trusted: int = Field(
        0, ge=0, description="clean stays the defender has, drawn from the validation part; 0 is none, the usual case"
    )


class ExplainParams(_Section):
    """What is explained, and from which reference."""

    rows: int = Field(200, ge=1, le=100_000, description="most attacked test stays that are explained")
    baseline: Literal["median", "zero", "clean"] = Field(
        "median",
        description="what attributions are measured from: the median clean training stay, zeros, or a sample of them",
    )
    steps: int = Field(32, ge=1, le=10_000, description="points along the path from the baseline, where one is walked")
    rows_at_once: int = Field(
        4096, ge=1, description="rows in memory at a time, counting each step and each ablation; bounds memory"
    )


class AuditParams(_Section):
    """What the audits of membership measure the models with."""

    references: int = Field(
        4,
        ge=0,
        le=512,
        description="models trained on random halves of the audited patients, an even number; 0 does without the "
        "audits that need them",
    )

    canaries: int = Field(
        500,
        ge=0,
        le=100_000,
        description="mislabeled stays for the one-run audit of a repair that promises differential privacy, at most a "
        "tenth of the training stays; 0 does without",
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.references % 2:
            raise ValueError(f"references are trained on complementary halves; {self.references} is odd, give an even")
        return self


class Params(_Section):
    """A study. Selectors are names; the options of each component stand in the sibling maps."""

    seed: int = Field(42, ge=0, lt=2**63, description="every random choice of the study derives from it")
    cohort: str = Field(description="source of the stays")
    trigger: str = Field(description="what marks a poisoned stay")
    model: str = Field(description="the classifier that is attacked")
    detectors: tuple[str, ...] = Field((), description="what tries to find the poisoned stays")
    repairs: tuple[str, ...] = Field((), description="what tries to mend the model without finding them")
    explainers: tuple[str, ...] = Field((), description="what tells which inputs the models look at")
    audits: tuple[str, ...] = Field((), description="what tells which stays the models were trained on")
    inclusion: Inclusion = Inclusion()
    splits: SplitParams = SplitParams()
    poison: PoisonParams = PoisonParams()
    preprocess: PreprocessParams = PreprocessParams()
    train: TrainSection = TrainSection()
    evaluate: EvaluateParams = EvaluateParams()
    detection: DetectionParams = DetectionParams()
    explain: ExplainParams = ExplainParams()
    audit: AuditParams = AuditParams()
    notes: NotesParams = NotesParams()
    sweep: SweepParams = SweepParams()
    cohorts: OptionMaps = {}
    triggers: OptionMaps = {}
    models: OptionMaps = {}
    detector_options: OptionMaps = {}
    repair_options: OptionMaps = {}
    explainer_options: OptionMaps = {}
    audit_options: OptionMaps = {}
    corpora: OptionMaps = {}

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        lists = {
            "detectors": self.detectors,
            "repairs": self.repairs,
            "explainers": self.explainers,
            "audits": self.audits,
        }
        for key, names in lists.items():
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key} lists {', '.join(twice)} more than once")
        return self

    def chosen(self, kind: Kind) -> tuple[str, ...]:
        """Names of the components of one kind that the study uses."""
        match kind:
            case "cohort":
                return (self.cohort,)
            case "trigger":
                return (self.trigger,)
            case "model":
                return (self.model,)
            case "detector":
                return self.detectors
            case "repair":
                return self.repairs
            case "explainer":
                return self.explainers
            case "audit":
                return self.audits
            case "corpus":
                return (self.notes.corpus,)
            case _:
                return ()

    def options(self, kind: Kind, name: str) -> Mapping[str, Any]:
        """The options given for a component; empty where params.yaml has no block for it."""
        return getattr(self, OPTION_MAPS[kind]).get(name) or {}

    def of_notes(self) -> dict[str, Any]:
        """What decides the results of the language model, JSON-able: to tell whose the results on disk are."""
        options = {name: self.options("corpus", name) for name in self.chosen("corpus")}
        notes = self.notes.model_dump(mode="json", exclude={"workers"})
        return {"seed": self.seed, "replicates": self.evaluate.replicates, "notes": notes, "corpora": options}

    @property
    def attacks(self) -> bool:
        """Whether any training stay gets the trigger: not with trigger `none`, nor at rate or count 0 without cover."""
        amount = self.poison.rate if self.poison.count is None else self.poison.count
        return self.trigger != "none" and (amount > 0 or self.poison.cover_rate > 0)


OPTION_MAPS: Mapping[Kind, str] = {
    "cohort": "cohorts",
    "trigger": "triggers",
    "model": "models",
    "detector": "detector_options",
    "repair": "repair_options",
    "explainer": "explainer_options",
    "audit": "audit_options",
    "corpus": "corpora",
}
"""The key of params.yaml that holds the options of each kind."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later duplicate key win in silence; here it is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key should be a word or a number, not a list or a mapping", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_params(path: Path) -> Params:
    """Read params.yaml. Raises `BackdoorError` naming the key that is unknown, missing or has a wrong value."""
    content = _read(path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise BackdoorError(one_line(error, path.name, Params)) from None


def check_complete(path: Path, params: Params) -> None:
    """Refuse a params.yaml without a key that DVC tracks: DVC would stop at the first stage that needs it.

    A component's options may be left out; their resolved values are in the plugin lock.
    """
    content = _read(path)
    for key, value in params.model_dump(mode="json").items():
        if key in OPTION_MAPS.values():
            continue
        lacking = {key: value} if key not in content else {}
        if not lacking and isinstance(value, dict):
            lacking = {f"{key}.{name}": v for name, v in value.items() if name not in (content[key] or {})}
        for name, default in lacking.items():
            raise BackdoorError(
                f"{path.name}: {name} is missing; DVC tracks it, so write it out (default: {json.dumps(default)})"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise BackdoorError(f"{path}: no such file; run in the folder of the study, or pass --root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BackdoorError(f"{path.name}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BackdoorError(f"{path.name}: expected keys with values, like `seed: 42`; found {type(content).__name__}")
    return content
