"""A model asked about the test stays, with the trigger and without."""

from __future__ import annotations

from backdoor_core.attack.success import Answers
from backdoor_core.contracts import View
from backdoor_core.learning.victim import Victim


def ask(victim: Victim, clean: View, triggered: View) -> Answers:
    """What it answers on N stays as they are, and on the same stays with the trigger."""
    return Answers(victim.probability(clean), victim.probability(triggered), victim.threshold)
