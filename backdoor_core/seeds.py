"""Independent random streams from the study's one seed.

Each purpose has its own child of one `numpy.random.SeedSequence`, so that drawing more numbers for
one purpose never shifts another, and adding a purpose leaves the existing streams as they were.
"""

from typing import Literal, get_args

import numpy as np

Purpose = Literal[
    "splits",
    "training",
    "poison_rows",
    "trigger_fit",
    "trigger_apply",
    "detection",
    "bootstrap",
    "cohort",
    "plausibility",
    "trusted",
    "cleanse",
    "repair",
    "explanation",
    "explain_bootstrap",
    "references",
    "audit",
    "leak_bootstrap",
    "notes",
    "notes_split",
    "notes_training",
    "notes_audit",
    "notes_bootstrap",
    "canaries",
    "notes_neighbors",
    "notes_references",
    "audit_stays",
]

# The position is the spawn key: append, never reorder.
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def seed_sequence(seed: int, purpose: Purpose, *keys: int) -> np.random.SeedSequence:
    """The seed sequence of one purpose; `keys` number the members of a family (a bootstrap per figure, say)."""
    return np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose), *keys))


def generator(seed: int, purpose: Purpose, *keys: int) -> np.random.Generator:
    """A numpy generator on the stream of one purpose."""
    return np.random.default_rng(seed_sequence(seed, purpose, *keys))


def integer(seed: int, purpose: Purpose, *keys: int) -> int:
    """A 63-bit integer seed on the stream of one purpose, for libraries that take an integer."""
    return int(seed_sequence(seed, purpose, *keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
