from backdoor_core.contracts import Audit, AuditCase, Floats


class LossThreshold(Audit):
    """The less the model's loss on a record, the likelier it was trained on it (Yeom et al. 2018).

    "Privacy risk in machine learning: analyzing the connection to overfitting", CSF, section III (the adversary that
    knows the loss): the score is -l(x). No reference model; easy records look like members.
    """

    name = "loss_threshold"
    requires = frozenset({"loss"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) -l(x)."""
        return -case.loss
