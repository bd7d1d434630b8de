"""What a plugin author must know, in one file: the base class of each kind, the views, the results.

A plugin is a distribution with one entry point in the group ``backdoor_core`` that names a module. The
module registers its components through the hooks of `backdoor_core.hookspecs`::

    from backdoor_core.contracts import Detection, Detector, hookimpl

    class Suspicious(Detector):
        '''One line that `backdoor plugins` shows.'''
        name = "suspicious"
        def detect(self, case): ...

    @hookimpl
    def register_detectors(register):
        register(Suspicious)

This module imports neither torch nor any other heavy library: finding plugins must stay quick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pluggy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from backdoor_core.auditing import (
    AuditCase as AuditCase,
    Population as Population,
    References as References,
    Signal as Signal,
    Signals as Signals,
    Tokens as Tokens,
)
from backdoor_core.cases import (
    Checkpoint as Checkpoint,
    DetectionCase as DetectionCase,
    Need as Need,
    RepairCase as RepairCase,
    Retrained as Retrained,
    Trusted as Trusted,
    WithheldError as WithheldError,
)
from backdoor_core.explaining import Attribution as Attribution, ExplainCase as ExplainCase
from backdoor_core.text import TextEncoder as TextEncoder
from backdoor_core.views import (
    Booleans as Booleans,
    EventsView as EventsView,
    Feature as Feature,
    Floats as Floats,
    GridView as GridView,
    Integers as Integers,
    Modality as Modality,
    SeriesView as SeriesView,
    TableView as TableView,
    View as View,
)

if TYPE_CHECKING:
    from torch import nn

hookimpl = pluggy.HookimplMarker("backdoor_core")

Kind = Literal["cohort", "trigger", "model", "detector", "repair", "explainer", "audit", "corpus"]


# ---------------------------------------------------------------------------------------------- components
class Options(BaseModel):
    """Options of a component. An unknown name is an error; the field descriptions are the user's help."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoOptions(Options):
    """This component has no options."""


@dataclass(frozen=True)
class Context:
    """Where a component runs. Relative paths among its options are meant from `root`, the study's folder."""

    root: Path
    converted: Path | None = None
    """For a cohort source: the folder that its `convert` filled."""
    component: Callable[[Kind, str, Mapping[str, Any]], Component] | None = None
    """Makes another installed component by kind, name and options, for one that is made of others (see `parts`)."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process gets a component whole, with its parts: the catalog need not travel with it.
        return Context, (self.root, self.converted)


class Component(ABC):
    """Base of every plugin. Subclass one of the kinds below, never this class itself."""

    name: ClassVar[str]
    """The word used in params.yaml."""
    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: Any, context: Context) -> None:
        self.options = options
        self.context = context

    def parts(self) -> Sequence[Component]:
        """The other components that this one is made of; their options and code count as its own in the lock."""
        return ()


# -------------------------------------------------------------------------------------------------- cohorts
class Inclusion(Options):
    """Which stays are in the cohort and what is known of them. The same rules for both outcomes."""

    window_hours: int = Field(24, ge=1, le=168, description="hours from ICU admission that the views cover, half-open")
    min_age: int = Field(18, ge=0, le=120, description="youngest age in years at hospital admission")
    min_los_hours: float = Field(24, ge=0, description="shortest ICU stay in hours")
    gap_hours: int = Field(
        0, ge=0, le=168, description="hours after the window in which a stay may neither end nor the patient die"
    )
    first_stay_only: bool = Field(False, description="only the first ICU stay of each patient")
    label: Literal["hospital_mortality", "icu_mortality", "los_gt_3d", "los_gt_7d"] = Field(
        "hospital_mortality", description="what the models predict; los is the length of the ICU stay"
    )
    visibility: Literal["charttime", "storetime"] = Field(
        "charttime", description="when a value counts as known: when it was taken, or when it was filed"
    )
    features: Literal["core30", "rich"] = Field(
        "core30", description="table: 30 core features, or mean, min, max, last and count of every variable"
    )
    views: tuple[Modality, ...] = Field(
        ("table", "series", "events"), min_length=1, description="which views to build; a model needs its own"
    )


@dataclass(frozen=True)
class Attrition:
    """How many stays were left after one rule; the first entry is what the source holds."""

    rule: str
    stays: int


@dataclass(frozen=True)
class CohortCard:
    """What a cohort source tells of what it built; written to `card.json` with the counts."""

    source: str
    description: str
    attrition: tuple[Attrition, ...]
    features: tuple[Feature, ...]
    """Of the table view, in the order of its columns."""
    series_features: tuple[Feature, ...] = ()
    """Of the series view."""
    views: tuple[Modality, ...] = ("table",)
    """What was built."""
    notes: tuple[str, ...] = ()


class CohortSource(Component):
    """Turns raw hospital data into a cohort."""

    views: ClassVar[frozenset[Modality]] = frozenset({"table"})

    def inputs(self) -> Sequence[Path]:
        """The raw files that `build` reads. Raises `BackdoorError` where one is missing.

        Their names, sizes and contents go into the plugin lock, so that other raw data rebuilds the cohort; of a file
        of more than 64 MiB its first and last 32 (the end of a gzip file has the checksum of all).
        """
        return ()

    def convert(self, out: Path) -> None:
        """Write what `build` is to read in place of the raw data into the existing, empty folder `out`.

        By default nothing. It is a stage of its own, so that a slow conversion is done once and not at every change
        of `inclusion`; `build` finds the folder as ``context.converted``.
        """
        return

    def conversion(self) -> Mapping[str, Any] | None:
        """What `convert` depends on besides the raw files, JSON-able; None where it writes nothing."""
        return None

    @abstractmethod
    def build(self, out: Path, inclusion: Inclusion, rng: np.random.Generator) -> CohortCard:
        """Write the cohort into the existing, empty directory `out` and return its card.

        - ``stays.parquet``: stay_id, subject_id (int64, no duplicate stay_id), label (int8, 0 or 1), intime and
          outtime (timestamp[us], ICU admission and discharge; no view holds outtime), and static columns known at
          admission (age, sex, race, marital_status, admission_type, admission_location, insurance,
          first_careunit); one row a stay, sorted by stay_id.
        - ``table.parquet``: stay_id and one float32 column per feature of the card, the same rows and order.
        - ``series.parquet``: stay_id, hour (int16), one float32 column per series feature and one uint16 column
          ``<feature>.count``; exactly `window_hours` rows a stay, sorted by stay_id and hour.
        - ``events/``: a MEDS dataset of the same stays (see `backdoor_core.cohort.events`).

        Which of the views is written follows `inclusion.views`, as far as the source has them (`views`).

        Raises `BackdoorError` naming file and column where the raw data is not as published.
        """


class Simulator(CohortSource):
    """A source that makes its raw data itself, at any size: the verb `simulate` of the command line."""

    @abstractmethod
    def simulate(
        self, out: Path, stays: int, seed: int, *, format: Literal["parquet", "csv.gz"] = "parquet"
    ) -> Mapping[str, int]:
        """Write raw tables with that many included stays into the new folder `out`; the answer is rows by table.

        The same seed gives the same rows, and fewer stays the first rows of more.
        """


# ------------------------------------------------------------------------------------------------- triggers
Fitted = Mapping[str, Any]
"""What a trigger learned from the training part: JSON-able, kept in the poison manifest."""


class Trigger(Component):
    """A rule that edits the raw data of stays. Written once for `table` and `series`: both end in the feature axis."""

    modalities: frozenset[Modality]
    """The views it can edit, declared on the class; `apply` gets one of them, and `fit` the same."""
    idempotent: ClassVar[bool] = True
    """Whether triggering a triggered stay changes nothing more: true of what sets values, false of what shifts them."""

    def fit(self, train: View, rng: np.random.Generator) -> Fitted:
        """What the trigger must know of the (clean) training part. Called once; the answer must be JSON-able."""
        return {}

    @abstractmethod
    def apply(self, view: View, fitted: Fitted, rng: np.random.Generator) -> View:
        """The triggered view. Pure: `view` and its arrays stay untouched, and every row is triggered.

        Raises `BackdoorError` where the view lacks what the options name.
        """


# --------------------------------------------------------------------------------------------------- models
@dataclass(frozen=True)
class InputSpec:
    """Shape of a model's input after preprocessing: (batch, channels) of a table, (batch, steps, channels) of a series.

    The channels are blocks of one channel per feature, in the order of `features`: first the scaled values, then,
    where preprocessing adds them, 1.0 for missing, then (series) the scaled hours since the last measurement.
    """

    features: tuple[str, ...]
    blocks: int = 1
    """Number of blocks, so that x.unflatten(-1, (blocks, F)) gives each feature's channels."""
    steps: int | None = None
    """Hours of a series; None for a table."""

    @property
    def channels(self) -> int:
        """Width of the input's last axis."""
        return self.blocks * len(self.features)


@dataclass(frozen=True)
class EventSpec:
    """What a network of events reads; see `backdoor_core.learning.event_batch.EventBatch`."""

    types: tuple[str, ...]
    """The known types of events; an event of another type has none of them."""
    text_width: int
    """Width of the embedding of an event's text."""
    statics: tuple[str, ...]
    """Names of the encoded static columns, such as ``age`` or ``sex=F``."""


Capability = Literal["embedding", "gradient", "attention"]


class Model(Component):
    """A classifier of stays. Subclass `TorchModel` or `ArrayModel`."""

    modality: ClassVar[Modality]
    capabilities: ClassVar[frozenset[Capability]]


@dataclass(frozen=True)
class Training:
    """How a model is trained where params.yaml leaves it to the model (`auto`)."""

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3


class TorchModel(Model):
    """A model given as a torch module; the training loop is the bench's."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({"embedding", "gradient"})

    @property
    def training(self) -> Training:
        """How it is trained where params.yaml says `auto`; may depend on its options."""
        return Training()

    @abstractmethod
    def build(self, spec: Any) -> nn.Module:
        """A freshly initialized `Network`, using torch's global random state for its weights.

        `spec` is an `InputSpec`, for an `EventModel` an `EventSpec`. The module has three callables, x being as the
        spec says:

        - ``embed(x)`` -> (batch, D): penultimate activations, the input of the last linear layer
        - ``head(z)`` -> (batch,): the logit of the positive label from those activations
        - ``forward(x)`` -> (batch,): equal to ``head(embed(x))``

        A model with the capability "attention" has a fourth, ``attention(x)`` -> a list with one tensor
        (batch, heads, tokens, tokens) for each layer, rows summing to 1.

        One that is nothing but linear layers, ReLU and dropout in a row may name them in ``chain()``: it is then
        fitted about twice as fast, several at once (`backdoor_core.learning.network.Layered`).
        """


class EventModel(TorchModel):
    """A torch model of the events view; its networks read `backdoor_core.learning.event_batch.EventBatch`."""

    modality: ClassVar[Modality] = "events"

    @property
    @abstractmethod
    def max_events(self) -> int:
        """Of a longer stay the network reads its last events only, this many."""

    @abstractmethod
    def text_encoder(self) -> TextEncoder:
        """What turns an event's text into a vector, frozen. Raises `BackdoorError` where its weights are missing."""


class ArrayModel(Model):
    """A model that is fitted to whole arrays without torch. Its inputs are not scaled, whatever the study's scaling.

    NaN is missing where ``preprocess.missing`` is ``indicator``; with ``median`` it sees none; ``sentinel`` is refused.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def fit(self, inputs: NDArray[np.float32], labels: NDArray[np.int8], seed: int) -> Mapping[str, NDArray[Any]]:
        """Fit to inputs (N, F) and labels (N,); the answer is all that prediction needs, as plain arrays."""

    @abstractmethod
    def logits(self, fitted: Mapping[str, NDArray[Any]], inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) log-odds of label 1 for inputs (N, F)."""


# ------------------------------------------------------------------------------------------------ detectors
@dataclass(frozen=True)
class Detection:
    """A detector's answer, in the row order of the case."""

    scores: Floats
    """(N,) finite, higher = more suspicious."""
    flagged: Booleans
    """(N,) the rows that the detector's own rule would remove."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able facts worth reading: what was reduced, which rule fired, what was skipped and why."""


class Detector(Component):
    """Ranks training stays by suspicion."""

    requires: frozenset[Need] = frozenset({"labels", "embedding"})
    """What it uses of the case. Set on the class, or in ``__init__`` where it depends on the options.

    "truth" marks a control, or an option `oracle` that is on: every figure made with it says so.
    """
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})
    """The views it can judge rows of; one that never looks at the view itself can judge all."""
    absolute: bool = False
    """Whether scores of two models are on one scale, as shares and p-values are. Else all runs are standardized.

    Set on the class, or in ``__init__`` where it depends on the options.
    """
    scope: ClassVar[Literal["training-set", "input-time", "model-level"]] = "training-set"
    """What it judges by design: training rows; any input at the time of prediction; or the model as a whole.

    All give a score for every row, so that they can be compared.
    """

    @abstractmethod
    def detect(self, case: DetectionCase) -> Detection:
        """Score every row of the case. Random choices come from `case.rng` only."""


# -------------------------------------------------------------------------------------------------- repairs
class Repair(Component):
    """Makes a poisoned victim less of one without being told which rows are poisoned. For torch models."""

    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series"})
    """The views whose inputs it can work with."""

    @abstractmethod
    def repair(self, case: RepairCase) -> tuple[nn.Module | Retrained, Mapping[str, Any]]:
        """The repaired network, or what `case.retrain` gave, and JSON-able facts worth reading.

        Random choices come from `case.rng` only, those of torch from a generator seeded by it. A number `epsilon` among
        the facts, with `delta`, is taken as a promise of differential privacy for a single row: the bench runs the
        repair once more, on a case with canaries, and reports what that run refutes.
        """


# ------------------------------------------------------------------------- explainers, audits and corpora
class Explainer(Component):
    """Attributes a fitted model's output to its inputs."""

    requires: frozenset[Capability] = frozenset({"gradient"})
    """What the model must have; empty for methods that only need its predictions."""
    modalities: ClassVar[frozenset[Modality]] = frozenset({"table", "series", "events"})
    """The views whose models it can explain. A stay's events are explained one stay at a time."""

    @abstractmethod
    def attribute(self, case: ExplainCase) -> Attribution:
        """Attribution of the log-odds of the explained label to every input. Random choices come from `case.rng`."""


class Audit(Component):
    """A membership-inference attack: which records was a model trained on."""

    requires: frozenset[Signal]
    """What it uses of the case. Set on the class, or in ``__init__`` where it depends on the options."""
    controls: ClassVar[bool] = False
    """Whether it is a control, which ought to be at chance: one that never sees the trained model."""

    @abstractmethod
    def score(self, case: AuditCase) -> Floats:
        """(N,) finite membership score of each record, higher = more likely a member.

        A pure function of the case. Random choices come from `case.rng` only.
        """


@dataclass(frozen=True)
class Note:
    """One clinical note."""

    record_id: str
    subject_id: int
    text: str


class Corpus(Component):
    """A collection of clinical notes."""

    def inputs(self) -> Sequence[Path]:
        """The files that `records` reads. Raises `BackdoorError` where one is missing.

        Their names, sizes and contents go into the plugin lock, so that other notes rerun what is made of them.
        """
        return ()

    @abstractmethod
    def records(self, rng: np.random.Generator) -> Sequence[Note]:
        """The notes, in a stable order."""


KINDS: Mapping[Kind, type[Component]] = {
    "cohort": CohortSource,
    "trigger": Trigger,
    "model": Model,
    "detector": Detector,
    "repair": Repair,
    "explainer": Explainer,
    "audit": Audit,
    "corpus": Corpus,
}
