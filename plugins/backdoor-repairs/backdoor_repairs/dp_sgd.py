"""Differentially private training as a defense against poison."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backdoor_core.contracts import Context, Options, Repair, RepairCase, Retrained
from backdoor_core.errors import BackdoorError

if TYPE_CHECKING:
    from torch import nn

INSTALL = 'pip install "backdoor-repairs[dp]"'


class DPSGDOptions(Options):
    """Options of differentially private training."""

    noise_multiplier: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="standard deviation of the noise on a step's sum of gradients, in units of max_grad_norm; 0 only "
        "clips, and guarantees nothing",
    )
    epsilon: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="privacy budget; used in place of noise_multiplier when given"
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="chance that the budget does not hold; null is 1 / rows^1.1"
    )
    max_grad_norm: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="each stay's gradient is clipped to this norm"
    )
    epochs: int | None = Field(None, ge=1, description="passes over the training part; null is the study's most")
    batch_size: int | None = Field(None, ge=1, description="expected stays per step; null is that of the study")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Adam's step size; null is that of the study")
    accountant: Literal["rdp", "prv"] = Field(
        "rdp", description="how epsilon is reckoned: rdp (Renyi orders, quick), prv (numerical composition, tighter)"
    )


class DPSGD(Repair):
    """Trains anew with clipped and noised gradients, so that no few rows can sway the model (through Opacus).

    Abadi et al. 2016, "Deep Learning with Differential Privacy", arXiv 1607.00133, algorithm 1, with Adam in place of
    plain descent (which only processes what is already private); as a defense against poison: Hong et al. 2020, "On
    the Effectiveness of Mitigating Data Poisoning Attacks with Gradient Shaping", arXiv 2002.11497. Each step takes
    every row with the probability `sample_rate` (Poisson sampling), clips each row's gradient, and adds Gaussian
    noise. The network starts from fresh weights and is trained for the whole number of epochs on all training rows
    as given, with neither early stopping nor class weights.

    Epsilon holds for the weights, given the inputs: preprocessing, temperature and threshold are learned without
    noise. The noise is pseudorandom, from the study's seed, so that a study can be repeated; a release of the model
    would need a secret source of it. With `noise_multiplier` 0 epsilon is null: nothing is guaranteed.
    """

    name = "dp_sgd"
    Options = DPSGDOptions

    def __init__(self, options: DPSGDOptions, context: Context) -> None:
        super().__init__(options, context)
        # Said before anything is trained. Finding is not importing, which takes seconds.
        if find_spec("opacus") is None:
            raise BackdoorError(f"repair {self.name} needs Opacus, which is not installed; run {INSTALL}")

    def repair(self, case: RepairCase) -> tuple[nn.Module | Retrained, Mapping[str, Any]]:
        """The network trained privately; epsilon, delta, and what they follow from.

        Raises `BackdoorError` for a network that Opacus cannot give a gradient for each row of, for a budget that no
        noise meets, and where the training diverges.
        """
        from backdoor_repairs.private_training import plan_privacy, train_privately

        options: DPSGDOptions = self.options
        privacy = plan_privacy(
            rows=len(case.labels),
            batch_size=options.batch_size or case.batch_size,
            epochs=options.epochs or case.epochs,
            noise_multiplier=options.noise_multiplier,
            epsilon=options.epsilon,
            delta=options.delta,
            accountant=options.accountant,
        )
        rate = options.learning_rate or case.learning_rate
        network = train_privately(case, privacy, options.max_grad_norm, rate)
        return network, {**privacy.facts(), "max_grad_norm": options.max_grad_norm, "learning_rate": rate}
