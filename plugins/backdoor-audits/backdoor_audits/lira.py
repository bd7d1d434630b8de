from typing import Literal

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Audit, AuditCase, Context, Floats, Options
from backdoor_core.errors import BackdoorError

from .gaussians import Predictive, Side, Variance, has_spread, predictive
from .sides import MODE, Mode, is_online, of_own_label


class LiraOptions(Options):
    """Options of the likelihood-ratio attack."""

    mode: Mode = Field("auto", description=MODE)
    variance: Variance = Field(
        "auto",
        description="residual: one variance for all records, about each record's own mean; per_record: each record's "
        "own; student: each record's own drawn towards the common one, with Student's t; auto: per_record from 32 "
        "references on each side used (64 models), else residual",
    )
    statistic: Literal["logit", "loss"] = Field(
        "logit",
        description="logit: exact, from the log-odds of a classifier; loss: log(p / (1 - p)) of p = exp(-loss), which "
        "for a binary classifier is the same but for rounding, and serves language models",
    )
    prior: float = Field(4.0, gt=0, description="student: number of observations that the common variance counts for")


class Lira(Audit):
    """Likelihood ratio of the target's confidence under models that saw the record and models that did not (LiRA).

    Carlini et al. 2022, "Membership inference attacks from first principles", IEEE S&P (arXiv 2112.03570), section
    IV-C. The confidence is phi = log(p / (1 - p)) of the record's own label, close to Gaussian over models; with one
    logit z it is (2y - 1) z exactly. Online (algorithm 1) the score is log N(phi; mu_in, s_in) -
    log N(phi; mu_out, s_out). Offline it is the one-sided (phi - mu_out) / s_out: the paper's probability Phi of it
    (equation 4) in the same order, without being 1 for all clear members.

    Few references give a poor variance for each record, so below 64 models the paper takes one for all records
    (section VI-B). It is taken here of the residuals about each record's mean, with the degrees of freedom that are
    left, and of each side for itself. "student" goes between the two without a switch: a conjugate prior that weighs
    `prior` observations of the common variance and the predictive t distribution (Gelman et al. 2013, "Bayesian data
    analysis", section 3.3; in the spirit of BaVarIA, arXiv 2603.11799). Where no record has two references on the
    side outside, offline scores are phi - mu_out, in the order of any common variance.
    """

    name = "lira"
    Options = LiraOptions
    requires = frozenset({"logits", "references"})

    def __init__(self, options: LiraOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.statistic == "loss":
            self.requires = frozenset({"loss", "references"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) log-likelihood ratio, or standardized confidence. Raises `BackdoorError` where references lack."""
        options: LiraOptions = self.options
        phi, references = self._confidence(case)
        member = case.references.member
        online = is_online(options.mode, member, self.name)
        outside = Side.of(references, ~member)
        inside = Side.of(references, member) if online else None
        if inside is not None and not (has_spread(inside) and has_spread(outside)):
            if options.mode == "online":
                raise BackdoorError(
                    f"audit {self.name}: mode online with {len(member)} references leaves no variance, as no record "
                    "has two on each side; train 4 or more, or set mode to offline"
                )
            inside = None
        form = options.variance
        if form == "auto":
            sides = [outside] if inside is None else [outside, inside]
            form = "per_record" if min(int(side.count.min()) for side in sides) >= 32 else "residual"
        without = predictive(outside, form, options.prior)
        if inside is None:
            return without.standing(phi)
        within: Predictive = predictive(inside, form, options.prior)
        return within.log_density(phi) - without.log_density(phi)

    def _confidence(self, case: AuditCase) -> tuple[Floats, Floats]:
        """Log-odds of the record's own label or text: of the target (N,), of the references (K, N)."""
        references, options = case.references, self.options
        if options.statistic == "loss":
            return log_odds_of(case.loss), log_odds_of(references.loss)
        if references.logits is None:
            raise BackdoorError(f"audit {self.name}: the references have no log-odds; set statistic to loss")
        return of_own_label(case.logits, case.labels), of_own_label(references.logits, case.labels)


def log_odds_of(loss: Floats) -> Floats:
    """log(p / (1 - p)) of p = exp(-loss) without forming p; a loss that underflowed to 0 counts as the least double."""
    floored = np.maximum(np.asarray(loss, dtype=np.float64), np.finfo(np.float64).tiny)
    odds: Floats = -floored - np.log(-np.expm1(-floored))
    return odds
