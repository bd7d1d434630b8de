"""Attacks retrained in memory, many at once: for the dose, for tables over rates and seeds, and for sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from backdoor_core import seeds
from backdoor_core.attack.poison import apply_poison, poison
from backdoor_core.attack.surrogate import margin
from backdoor_core.cohort.splits import split_by_patient
from backdoor_core.cohort.storage import Cohort, Rows
from backdoor_core.contracts import Model, Trigger, View
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.learning.victim import Victim
from backdoor_core.params import Params, PoisonParams
from backdoor_core.ranking import auroc

OnDone = Callable[[int], None]


@dataclass(frozen=True)
class Replicate:
    """One seed of a study: its own split by patient, order of stays and weights, as a study of that seed has them."""

    seed: int
    train: Rows
    validation: Rows
    test: Rows

    @classmethod
    def of(cls, cohort: Cohort, model: Model, params: Params, seed: int) -> Replicate:
        """The parts that a study with that seed draws."""
        rng = seeds.generator(seed, "splits")
        parts = split_by_patient(cohort.stay_id, cohort.subject_id, cohort.label, params.splits, rng)
        view = cohort.view(model.modality)
        rows = [np.flatnonzero(np.isin(cohort.stay_id, stays)) for stays in parts.values()]
        return cls(seed, *(Rows(view.take(r), cohort.label[r]) for r in rows))


@dataclass(frozen=True)
class Trial:
    """One attack: which replicate, which trigger, and how the attacker poisons."""

    replicate: Replicate
    trigger: Trigger
    poison: PoisonParams


@dataclass(frozen=True)
class Outcome:
    """What one attack achieved on the test part."""

    asr: float
    asr_baseline: float
    clean_rate: float
    clean_rate_baseline: float
    auroc: float
    auroc_baseline: float
    poisoned: int
    """Training stays that were poisoned."""

    @property
    def lift(self) -> float:
        """Attack success beyond what the trigger does to the clean twin."""
        return self.asr - self.asr_baseline

    @property
    def effect_lift(self) -> float:
        """How much more the trigger does to the model than to the clean twin (`success.effect_lift`)."""
        return self.lift - (self.clean_rate - self.clean_rate_baseline)

    @property
    def least_lift(self) -> float:
        """The smaller of both, by which a verdict goes: a model that calls everybody positive has none."""
        return min(self.lift, self.effect_lift)

    @property
    def auroc_change(self) -> float:
        """What the poison costs on clean stays."""
        return self.auroc - self.auroc_baseline


class Bench:
    """Runs trials of one model; each replicate's clean twin is fitted once and kept."""

    def __init__(self, model: Model, params: Params) -> None:
        self.model = model
        self.params = params
        self._twins: dict[int, Victim] = {}

    def twins(self, replicates: Sequence[Replicate], on_done: OnDone = lambda fits: None) -> Mapping[int, Victim]:
        """The clean twin of each replicate, by seed."""
        missing = [r for r in {r.seed: r for r in replicates}.values() if r.seed not in self._twins]
        tasks = [self._task(r, r.train, r.train.view) for r in missing]
        trained = train_victims(self.model, tasks, self.params, lambda numbers: on_done(len(numbers)))
        self._twins.update({r.seed: done.victim for r, done in zip(missing, trained, strict=True)})
        return self._twins

    def run(self, trials: Sequence[Trial], on_done: OnDone = lambda fits: None) -> list[Outcome]:
        """Poison, retrain and judge each trial as a study of its seed would; `on_done` hears how many fits ended.

        A trial whose poisoning takes no stay is judged with the clean twin itself.
        """
        twins = self.twins([trial.replicate for trial in trials], on_done)
        attacks = [_Attack(trial, twins[trial.replicate.seed], self.params) for trial in trials]
        fitted = [k for k, attack in enumerate(attacks) if attack.changes]
        tasks = [self._task(trials[k].replicate, attacks[k].rows, self._fit_on(attacks[k])) for k in fitted]
        trained = train_victims(self.model, tasks, self.params, lambda numbers: on_done(len(numbers)))
        victims = {k: done.victim for k, done in zip(fitted, trained, strict=True)}
        return [attack.judge(victims.get(k, attack.twin)) for k, attack in enumerate(attacks)]

    def _fit_on(self, attack: _Attack) -> View:
        clean = self.params.preprocess.fit_on == "clean"
        return attack.trial.replicate.train.view if clean else attack.rows.view

    def _task(self, replicate: Replicate, train: Rows, fit_on: View) -> Task:
        seed = seeds.integer(replicate.seed, "training")
        return Task(train=train, validation=replicate.validation, fit_on=fit_on, seed=seed)


class _Attack:
    """A trial once poisoned."""

    def __init__(self, trial: Trial, twin: Victim, params: Params) -> None:
        self.trial, self.twin, self.target = trial, twin, trial.poison.target
        replicate, seed = trial.replicate, trial.replicate.seed
        train = replicate.train
        near = trial.poison.selection == "near_boundary"
        self.poisoning = poison(
            train.view,
            train.label,
            trial.trigger,
            trial.poison,
            select=seeds.generator(seed, "poison_rows"),
            fit=seeds.generator(seed, "trigger_fit"),
            apply=seeds.generator(seed, "trigger_apply", 0),
            margin=margin(train.view, train.label) if near else None,
        )

    @property
    def changes(self) -> bool:
        return len(self.poisoning.rows) > 0

    @cached_property
    def rows(self) -> Rows:
        train = self.trial.replicate.train
        return Rows(*apply_poison(train.view, train.label, self.poisoning))

    def judge(self, victim: Victim) -> Outcome:
        test, seed = self.trial.replicate.test, self.trial.replicate.seed
        rng = seeds.generator(seed, "trigger_apply", 1)
        triggered = self.trial.trigger.apply(test.view, self.poisoning.fitted, rng)
        others = test.label != self.target
        shown = (triggered.take(others), test.view.take(others))
        asr, rate = ([float(v.decides(view, self.target).mean()) for v in (victim, self.twin)] for view in shown)
        ranked = [float(auroc(v.probability(test.view), test.label == 1)) for v in (victim, self.twin)]
        return Outcome(asr[0], asr[1], rate[0], rate[1], ranked[0], ranked[1], int((~self.poisoning.cover).sum()))
