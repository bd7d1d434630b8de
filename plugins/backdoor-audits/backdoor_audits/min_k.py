from pydantic import Field

from backdoor_core.contracts import Audit, AuditCase, Floats, Options

from .lowest import mean_of_lowest


class MinKOptions(Options):
    """Options of Min-K%."""

    k: float = Field(0.2, gt=0, le=1, description="share of each text's tokens, the least likely ones, that count")


class MinK(Audit):
    """Mean log-probability of the least likely tokens of a text (Min-K% Prob, Shi et al. 2024).

    "Detecting pretraining data from large language models", ICLR (arXiv 2310.16789), section 4: of a text with T
    tokens the lowest max(1, floor(k T)). A text that the model never saw is likelier to hold a few tokens that
    surprise it much. Set k in advance: the best of many is not the audit's figure.
    """

    name = "min_k"
    Options = MinKOptions
    requires = frozenset({"token_logprobs"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) mean of the lowest log-probabilities."""
        options: MinKOptions = self.options
        tokens = case.tokens
        return mean_of_lowest(tokens.log_prob, tokens.offsets, options.k)
