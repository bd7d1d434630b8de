import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Audit, AuditCase, Context, Floats, Options


class ZlibEntropyOptions(Options):
    """Options of the zlib ratio."""

    loss: Literal["mean", "sum"] = Field(
        "mean",
        description="mean: loss per token over the bytes of the whole text, as published; sum: loss of the whole text, "
        "which leaves the length of the text out of the score",
    )


class ZlibEntropy(Audit):
    """The model's loss on a text over its size when compressed (Carlini et al. 2021).

    "Extracting training data from large language models", USENIX Security, section 5.2: the score is
    -loss / len(zlib(text)), the log-perplexity (mean loss per token) over bytes. That ratio falls with the length of
    a text, so a long text looks like a member; the option "sum" is the variant without that.
    """

    name = "zlib"
    Options = ZlibEntropyOptions
    requires = frozenset({"loss", "texts"})

    def __init__(self, options: ZlibEntropyOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.loss == "sum":
            self.requires = frozenset({"token_logprobs", "texts"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) minus the loss per compressed byte."""
        options: ZlibEntropyOptions = self.options
        if options.loss == "sum":
            tokens = case.tokens
            return np.add.reduceat(tokens.log_prob, tokens.offsets[:-1]) / compressed_bytes(case.texts)
        return -case.loss / compressed_bytes(case.texts)


def compressed_bytes(texts: Sequence[str]) -> NDArray[Any]:
    """(N,) bytes of each text in UTF-8, compressed by zlib at its default level; 8 for an empty text."""
    return np.array([len(zlib.compress(text.encode())) for text in texts], dtype=np.float64)
