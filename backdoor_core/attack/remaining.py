"""What is left of an attack once something was done against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from backdoor_core.attack.answers import ask
from backdoor_core.attack.evaluation import attack_figures
from backdoor_core.attack.success import Answers
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import View
from backdoor_core.learning.performance import performance
from backdoor_core.learning.victim import Victim

FIGURES = ("auroc", "auprc", "ece")


@dataclass(frozen=True)
class Judge:
    """Figures of a model on the test part: the attack's against the clean twin, and the clean ones."""

    test: Rows
    triggered: View
    twin: Answers
    weights: NDArray[Any]
    target: int

    def figures(self, victim: Victim) -> dict[str, Any]:
        """ASR, its lift, AUROC, AUPRC and ECE, each with its interval."""
        answers = ask(victim, self.test.view, self.triggered)
        attack = attack_figures(
            {"poisoned": answers, "baseline": self.twin}, self.test.label, self.target, self.weights
        )
        truth = self.test.label == 1
        clean = performance(answers.clean, truth, answers.threshold, self.weights, FIGURES)
        shown = {name: attack[name] for name in ("asr", "asr_baseline", "asr_lift")} | clean
        return {name: estimate.as_dict() for name, estimate in shown.items()}
