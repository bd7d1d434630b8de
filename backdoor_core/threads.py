"""How many threads numeric libraries take: their number decides the order of sums, and so the last digit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def numeric_threads(count: int) -> Iterator[None]:
    """In the block, `count` threads for the libraries that are loaded, and from then on for those still to be."""
    from threadpoolctl import threadpool_limits

    os.environ |= dict.fromkeys(_VARIABLES, str(count))
    with threadpool_limits(count):
        yield
