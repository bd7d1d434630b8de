import numpy as np
from pydantic import Field

from backdoor_core.contracts import Audit, AuditCase, Booleans, Context, Floats, Integers, Options
from backdoor_core.errors import BackdoorError

from .sides import MODE, Mode, is_online, of_own_label


class RmiaOptions(Options):
    """Options of the robust membership-inference attack."""

    mode: Mode = Field("auto", description=MODE)
    gamma: float = Field(2.0, gt=0, description="by how much the record's ratio must exceed that of another to win")
    a: float = Field(
        0.3,
        ge=0,
        le=1,
        description="offline: takes the probability under models trained on a record for a p + 1 - a of that under "
        "others; set in advance, never by the target's members",
    )
    temperature: float = Field(
        1.0, gt=0, description="divides the log-odds of a classifier before they become probabilities"
    )
    tie_break: bool = Field(True, description="ranks records that win against equally many by their own ratio")


class Rmia(Audit):
    """How often a record's likelihood ratio exceeds that of records from outside (RMIA, Zarifzadeh et al. 2024).

    "Low-cost high-power membership inference attacks", ICML (arXiv 2312.03262): with r(x) = p(x | target) / p(x), the
    score is the share of the population records z with r(x) / r(z) >= gamma. p(x) is the mean over the references,
    half of the weight on those trained on x (online); offline the mean p_out over those that were not, corrected to
    ((1 + a) p_out + 1 - a) / 2 (`offline_a` in the authors' code). Population records are outside of all references,
    so p(z) is corrected in that way in both forms. p is the probability of a stay's label, or exp(-loss), the
    geometric mean over tokens, of a note.

    The population must be outside of the audited records and of every training: a reference that saw z makes p(z)
    too large and all scores with it. With M population records scores are multiples of 1 / M; `tie_break` adds less
    than that, by r(x). The authors' code has gamma 2, and offline a 0.3 for the images of CIFAR-10, with temperature
    2, and a 0.2 for the table Purchase-100. Sorting the population makes it O((N + M) log M).
    """

    name = "rmia"
    Options = RmiaOptions
    requires = frozenset({"loss", "references", "population"})

    def __init__(self, options: RmiaOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.temperature != 1:
            self.requires = frozenset({"logits", "references", "population"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) share of the population that each record exceeds. Raises `BackdoorError` where references lack."""
        options: RmiaOptions = self.options
        member = case.references.member
        online = is_online(options.mode, member, self.name)
        target, references, population, population_references = self._log_probabilities(case)
        outside = corrected(log_mean(references, ~member), options.a)
        if online:
            outside = np.logaddexp(log_mean(references, member), log_mean(references, ~member)) - np.log(2)
        everyone = np.ones(population_references.shape, dtype=np.bool_)
        ratios = target - outside
        others = population - corrected(log_mean(population_references, everyone), options.a)
        return share_exceeded(ratios, others, options.gamma, options.tie_break)

    def _log_probabilities(self, case: AuditCase) -> tuple[Floats, Floats, Floats, Floats]:
        """Of the label or text: target (N,), references (K, N); and on the population (M,), (K, M)."""
        options: RmiaOptions = self.options
        references, population = case.references, case.population
        if options.temperature == 1:
            return -case.loss, -references.loss, -population.loss, -population.reference_loss
        if references.logits is None or population.logits is None or population.reference_logits is None:
            raise BackdoorError(f"audit {self.name}: a temperature needs log-odds of the references and the population")
        return (
            _tempered(case.logits, case.labels, options.temperature),
            _tempered(references.logits, case.labels, options.temperature),
            _tempered(population.logits, population.labels, options.temperature),
            _tempered(population.reference_logits, population.labels, options.temperature),
        )


def _tempered(logits: Floats, labels: Integers | None, temperature: float) -> Floats:
    return -np.logaddexp(0, -of_own_label(logits, labels) / temperature)


def log_mean(log_values: Floats, chosen: Booleans) -> Floats:
    """(N,) logarithm of the mean of exp of the chosen log values (K, N); a probability of 0 counts like any other."""
    kept = np.where(chosen, log_values, -np.inf)
    top = kept.max(axis=0)
    means: Floats = top + np.log(np.exp(kept - top).sum(axis=0) / chosen.sum(axis=0))
    return means


def corrected(log_outside: Floats, a: float) -> Floats:
    """(N,) logarithm of ((1 + a) p + 1 - a) / 2 from that of p."""
    scaled: Floats = log_outside + np.log((1 + a) / 2)
    return scaled if a == 1 else np.logaddexp(scaled, np.log((1 - a) / 2))


def share_exceeded(ratios: Floats, others: Floats, gamma: float, tie_break: bool) -> Floats:
    """(N,) share of log ratios `others` (M,) that each of `ratios` (N,) exceeds by log gamma or more.

    With `tie_break` it is (count + r / (1 + r)) / (M + 1) of the ratio r, so that no count overtakes a larger one.
    """
    counts = np.searchsorted(np.sort(others), ratios - np.log(gamma), side="right")
    if not tie_break:
        return counts / len(others)
    own: Floats = 0.5 * (1 + np.tanh(ratios / 2))
    return (counts + own) / (len(others) + 1)
