from backdoor_core.contracts import Audit, AuditCase, Floats

from .sides import is_online, mean_outside


class Reference(Audit):
    """How much less the target's loss on a record is than that of models which were not trained on it.

    Watson et al. 2022, "On the importance of difficulty calibration in membership inference attacks", ICLR
    (arXiv 2111.08440), section 3; for language models the likelihood ratio of Mireshghallah et al. 2022: the score is
    mean_k l_k(x) - l(x) over the references k that did not see x. What is hard for all models no longer looks unlike
    a member. Where all records are equally hard the references only add noise, and `loss_threshold` does better.
    """

    name = "reference"
    requires = frozenset({"loss", "references"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) mean loss of the references outside less the target's. Raises `BackdoorError` where there is none."""
        references = case.references
        is_online("offline", references.member, self.name)
        return mean_outside(references.loss, references.member) - case.loss
