from backdoor_core.contracts import Audit, AuditCase, Floats


class Neighborhood(Audit):
    """How much less the loss of a record is than that of altered copies of it (Mattern et al. 2023), a variant.

    "Membership inference attacks against language models via neighbourhood comparison", Findings of ACL, section 2:
    the score is mean_j l(x_j) - l(x) over J neighbors. The paper's neighbors come from a masked language model that
    replaces words by others that fit. Here they are what the study altered: slots of a template or tokens swapped for
    others of the corpus. Such copies fit less well than the paper's, and its figures are not this variant's.
    """

    name = "neighborhood"
    requires = frozenset({"loss", "neighbors"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) mean loss of the altered copies less that of the record."""
        return case.neighbor_loss.mean(axis=1) - case.loss
