"""What a text encoder is: a frozen function from a text to a vector. Light, so that a plugin can import it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TextEncoder(Protocol):
    """Turns texts into vectors without learning anything from them."""

    @property
    def identity(self) -> str:
        """All that an embedding depends on besides the text: encoder, options, hash of the weights or revision.

        Two encoders of one identity must agree on every text, up to rounding. It holds no NUL character.
        """
        ...

    @property
    def width(self) -> int:
        """Length of an embedding."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(M, width) finite embeddings, in the order of `texts`; the empty text has one too."""
        ...
