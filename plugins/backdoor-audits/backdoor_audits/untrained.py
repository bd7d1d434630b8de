from backdoor_core.contracts import Audit, AuditCase, Floats


class Untrained(Audit):
    """Control: the loss of the same architecture before training, which can know no member.

    Judged as `loss_threshold` is. An AUC away from 0.5 comes from the records or from the judging, not from training.
    """

    name = "untrained"
    requires = frozenset({"untrained"})
    controls = True

    def score(self, case: AuditCase) -> Floats:
        """(N,) -l(x) under the untrained model."""
        return -case.untrained_loss
