"""How many threads numeric libraries take: their number decides the order of sums, and so the last digit."""

import os

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_threads(count: int) -> None:
    """`count` threads for the libraries that are loaded, and for those still to be, until this process ends."""
    from threadpoolctl import threadpool_limits

    os.environ |= dict.fromkeys(_VARIABLES, str(count))
    threadpool_limits(count)
