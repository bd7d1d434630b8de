"""What a membership-inference audit is given: a case, and through it the signals that it declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from backdoor_core.cases import WithheldError
from backdoor_core.views import Booleans, Floats, Integers

T = TypeVar("T")
Signal = Literal[
    "loss",
    "logits",
    "references",
    "population",
    "token_logprobs",
    "texts",
    "inputs",
    "neighbors",
    "untrained",
    "truth",
]
"""What an audit may ask for; see the attribute of `AuditCase` that `ATTRIBUTES` names."""

ATTRIBUTES: Mapping[Signal, str] = {
    "loss": "loss",
    "logits": "logits",
    "references": "references",
    "population": "population",
    "token_logprobs": "tokens",
    "texts": "texts",
    "inputs": "inputs",
    "neighbors": "neighbor_loss",
    "untrained": "untrained_loss",
    "truth": "truth",
}


@dataclass(frozen=True)
class Tokens:
    """The target language model on every token of the N texts: text i owns positions offsets[i]:offsets[i + 1].

    Natural logarithms. The first token of a text, which nothing predicts, is left out by who measures.
    """

    offsets: NDArray[np.int64]
    """(N + 1,) from 0 to E."""
    log_prob: Floats
    """(E,) log-probability of each token after those before it."""
    mean: Floats
    """(E,) expected log-probability of a token there, over the vocabulary, under the model's own distribution."""
    sd: Floats
    """(E,) its standard deviation, likewise."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each text."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class References:
    """K models of the target's kind, each trained on records of its own choice, on the N audited records."""

    member: Booleans
    """(K, N) which records each was trained on; all False for a reference that saw none of them."""
    loss: Floats
    """(K, N) mean loss of each record."""
    logits: Floats | None = None
    """(K, N) log-odds of label 1, for classifiers."""


@dataclass(frozen=True)
class Population:
    """M records like the audited ones that neither the target nor any reference was trained on, and none of them."""

    loss: Floats
    """(M,) of the target."""
    reference_loss: Floats
    """(K, M) of the references, in the order of `References`."""
    labels: Integers | None = None
    """(M,) for classifiers."""
    logits: Floats | None = None
    """(M,) the target's log-odds of label 1, for classifiers."""
    reference_logits: Floats | None = None
    """(K, M) the references', for classifiers."""


@dataclass(frozen=True)
class Signals:
    """All that the bench measured of one target and N records, in one stable order. None is what it did not measure."""

    groups: NDArray[Any]
    """(N,) patient of each record."""
    loss: Floats | None = None
    """(N,) mean loss of the target: binary cross-entropy of a stay's label, mean token NLL of a note."""
    logits: Floats | None = None
    """(N,) the target's log-odds of label 1."""
    labels: Integers | None = None
    """(N,) 0 or 1; goes with `logits`, and with `inputs` where there are labels."""
    references: References | None = None
    population: Population | None = None
    tokens: Tokens | None = None
    texts: Sequence[str] | None = None
    inputs: Floats | None = None
    """(N, C) raw features, NaN where missing."""
    neighbor_loss: Floats | None = None
    """(N, J) the target's mean loss on J altered copies of each record."""
    untrained_loss: Floats | None = None
    """(N,) mean loss of the target's architecture before training."""
    truth: Booleans | None = None
    """(N,) whether the target was trained on the record."""

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class AuditCase:
    """What an audit may see of one target and N records. What it did not declare in `requires` raises `WithheldError`.

    Who runs audits makes one case of what was measured; `backdoor_core.privacy.case.run_audit` grants of it what
    the audit declares, and refuses an audit whose signals were not measured before it does anything.
    """

    signals: Signals
    """For who runs audits. An audit reads the properties below."""
    rng: np.random.Generator
    granted: frozenset[Signal] = frozenset()

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def groups(self) -> NDArray[Any]:
        """(N,) patient of each record. Always granted: records of one patient are not independent."""
        return self.signals.groups

    @property
    def loss(self) -> Floats:
        """(N,) mean loss of the target per record, natural logarithms."""
        return self._get("loss", self.signals.loss)

    @property
    def logits(self) -> Floats:
        """(N,) the target's log-odds of label 1."""
        return self._get("logits", self.signals.logits)

    @property
    def labels(self) -> Integers | None:
        """(N,) label of each record; None where records have none. Comes with "logits" or "inputs"."""
        if not self.granted & {"logits", "inputs"}:
            raise WithheldError('the audit uses the labels without declaring "logits" or "inputs" in `requires`')
        return self.signals.labels

    @property
    def references(self) -> References:
        """The reference models on the same records."""
        return self._get("references", self.signals.references)

    @property
    def population(self) -> Population:
        """Records outside every training."""
        return self._get("population", self.signals.population)

    @property
    def tokens(self) -> Tokens:
        """The target on every token. Needs "token_logprobs"."""
        return self._get("token_logprobs", self.signals.tokens)

    @property
    def texts(self) -> Sequence[str]:
        """N texts."""
        return self._get("texts", self.signals.texts)

    @property
    def inputs(self) -> Floats:
        """(N, C) raw features, NaN where missing."""
        return self._get("inputs", self.signals.inputs)

    @property
    def neighbor_loss(self) -> Floats:
        """(N, J) the target's mean loss on J altered copies of each record. Needs "neighbors"."""
        return self._get("neighbors", self.signals.neighbor_loss)

    @property
    def untrained_loss(self) -> Floats:
        """(N,) mean loss of the same architecture before training. Needs "untrained"."""
        return self._get("untrained", self.signals.untrained_loss)

    @property
    def truth(self) -> Booleans:
        """(N,) membership. Only for controls."""
        return self._get("truth", self.signals.truth)

    def _get(self, signal: Signal, value: T | None) -> T:
        if signal not in self.granted:
            raise WithheldError(f"the audit uses {signal!r} without declaring it in `requires`")
        if value is None:
            raise WithheldError(f"this case has no {signal!r}")
        return value
