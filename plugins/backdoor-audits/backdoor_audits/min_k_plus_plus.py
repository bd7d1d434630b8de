import numpy as np
from pydantic import Field

from backdoor_core.contracts import Audit, AuditCase, Floats, Options

from .lowest import mean_of_lowest


class MinKPlusPlusOptions(Options):
    """Options of Min-K%++."""

    k: float = Field(0.2, gt=0, le=1, description="share of each text's tokens, those of lowest score, that count")
    floor: float = Field(
        1e-3, gt=0, description="least standard deviation, in nats, that a token's log-probability is divided by"
    )


class MinKPlusPlus(Audit):
    """Min-K% on standardized log-probabilities (Min-K%++, Zhang et al. 2025).

    "Min-K%++: improved baseline for detecting pre-training data from large language models", ICLR (arXiv 2404.02936),
    section 4: each token has z = (log p - mu) / sigma, mu and sigma being mean and standard deviation of the
    log-probability of a token there under the model's own distribution; the score is the mean of the lowest
    max(1, floor(k T)). Where the model is sure of the token, sigma is next to nothing: it is floored.
    """

    name = "min_k_plus_plus"
    Options = MinKPlusPlusOptions
    requires = frozenset({"token_logprobs"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) mean of the lowest standardized log-probabilities."""
        options: MinKPlusPlusOptions = self.options
        tokens = case.tokens
        standardized = (tokens.log_prob - tokens.mean) / np.maximum(tokens.sd, options.floor)
        return mean_of_lowest(standardized, tokens.offsets, options.k)
