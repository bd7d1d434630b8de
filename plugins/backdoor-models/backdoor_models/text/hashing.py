"""Text features without a model: counts of n-grams, projected by signed hashing."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH = 768
_WORD_ORDERS = (1, 2)
_CHARACTER_ORDERS = (3, 4, 5)
_WORD = re.compile(r"\w+")


class HashingEncoder:
    """Word 1-2-grams and character 3-5-grams of the case-folded text, hashed with a sign to 768 places, unit length.

    The signed hash is a sparse random projection: it keeps the inner product of two texts' n-gram counts in
    expectation (Weinberger et al. 2009, arXiv 0902.2206, section 2). A count enters as its integer square root, so
    that a long text is not ruled by its commonest n-grams; sums of integers are exact, so every platform gives the
    same bits. Any script works, words or not. A text of nothing but white space is the zero vector.
    """

    width = _WIDTH
    # Case folding and normal forms follow the Unicode tables of the Python that runs.
    identity = (
        f"hashing width={_WIDTH} words={_WORD_ORDERS} characters={_CHARACTER_ORDERS} "
        f"unicode={unicodedata.unidata_version}"
    )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(M, 768) embeddings; each depends on its own text alone, to the bit."""
        if not len(texts):
            return np.zeros((0, _WIDTH), np.float32)
        # Here: it takes a second to import, and the texts of a study are mostly known from the store.
        from sklearn.feature_extraction import FeatureHasher

        hasher = FeatureHasher(_WIDTH, input_type="dict", alternate_sign=True)
        vectors = hasher.transform(_weights(text) for text in texts).toarray()
        length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        unit: NDArray[np.float32] = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
        return unit


def _weights(text: str) -> dict[str, int]:
    counts = Counter(_ngrams(normalized(text)))
    return {ngram: math.isqrt(count) for ngram, count in counts.items()}


def normalized(text: str) -> str:
    """NFKC and case-folded, runs of white space made one space; what UTF-8 cannot hold becomes a question mark."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.encode("utf-8", "replace").decode("utf-8").split())


def _ngrams(text: str) -> list[str]:
    if not text:
        return []
    words = _WORD.findall(text)
    padded = f" {text} "
    return [
        *("w " + " ".join(words[i : i + n]) for n in _WORD_ORDERS for i in range(len(words) - n + 1)),
        *("c " + padded[i : i + n] for n in _CHARACTER_ORDERS for i in range(len(padded) - n + 1)),
    ]
