"""Collections of clinical notes, for what a language model leaks of them."""

from collections.abc import Callable

from backdoor_core.contracts import Corpus, hookimpl

from .mimic_like import MimicLike
from .simple import Simple
from .text import Text


@hookimpl
def register_corpora(register: Callable[[type[Corpus]], None]) -> None:
    """Register the corpora of this distribution."""
    for corpus in (Simple, MimicLike, Text):
        register(corpus)
