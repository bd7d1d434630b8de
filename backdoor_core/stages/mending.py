"""Repairs of a victim, as the stage `cleanse` runs them."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from backdoor_core import seeds
from backdoor_core.cases import RepairCase, Retrained
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Repair
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.training import train_victim
from backdoor_core.learning.victim import TorchVictim, Victim, as_torch
from backdoor_core.params import PreprocessParams
from backdoor_core.stages.data import Parts
from backdoor_core.stages.detecting import trusted_stays
from backdoor_core.study import Study


def as_network(victim: Victim) -> TorchVictim:
    """The victim as what a repair mends. Raises `BackdoorError` for a model without a network."""
    if not isinstance(victim, TorchVictim):
        raise BackdoorError("repairs mend torch models; this model is none")
    return victim


def repair_victim(
    repair: Repair, victim: TorchVictim, study: Study, parts: Parts, rows: Rows, rng: np.random.Generator
) -> tuple[Victim, Mapping[str, Any]]:
    """The mended victim, its temperature and threshold taken anew on the validation part, and the repair's facts."""
    params = study.params
    model, spec = as_torch(study.model()), victim.preprocessor.spec
    training = params.train.of(model)
    trusted = trusted_stays(study, parts)

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return model.build(spec)

    def retrain(changes: Mapping[str, Any]) -> Retrained:
        preprocess = PreprocessParams.model_validate({**params.preprocess.model_dump(), **changes})
        changed = params.model_copy(update={"preprocess": preprocess})
        # As in the training of the victim: what clean preprocessing learns must not be what the poison says.
        fit_on = parts.train.view if changed.preprocess.fit_on == "clean" else rows.view
        seed = seeds.integer(params.seed, "training")
        return Retrained(train_victim(model, rows, parts.validation, fit_on, changed, seed).victim)

    case = RepairCase(
        inputs=victim.inputs(rows.view),
        labels=rows.label,
        trusted=(victim.inputs(trusted.view), trusted.labels) if trusted else None,
        network=copy.deepcopy(victim.network).eval(),
        fresh=fresh,
        retrain=retrain,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        epochs=training.epochs,
        rng=rng,
    )
    mended, details = repair.repair(case)
    if isinstance(mended, Retrained):
        return mended.victim, details
    return replace(victim, network=mended.eval()).calibrated(parts.validation, params.evaluate), details


def check_promise(
    repair: Repair, victim: TorchVictim, study: Study, parts: Parts, rows: Rows, details: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A lower bound on epsilon where the repair's facts promise one: from one more run of it, with canaries.

    The run has its own coins and noise, and its own promise, which the bound stands beside. None where nothing is
    promised, or too few canaries fit into the training part. `rows` are the training part as the victim has it.
    """
    most = study.params.audit.canaries
    if not most or details.get("epsilon") is None or details.get("delta") is None:
        return None
    # Here: SciPy's statistics take a second to import, and few repairs promise privacy.
    from backdoor_core.privacy.canaries import draw_canaries
    from backdoor_core.privacy.one_run import judge_canaries

    rng = seeds.generator(study.params.seed, "canaries", *repair.name.encode())
    canaries = draw_canaries(len(rows.label), most, rng)
    if canaries is None:
        return None
    audited, promised = repair_victim(repair, victim, study, parts, canaries.put_into(rows), rng)
    of_canaries = rows.view.take(canaries.rows)
    scores = canaries.scores(rows.label, victim.logits(of_canaries), audited.logits(of_canaries))
    bound = judge_canaries(scores, canaries.coins, float(promised["delta"]))
    return {"promised": {key: promised[key] for key in ("epsilon", "delta")}, **bound.as_dict()}
