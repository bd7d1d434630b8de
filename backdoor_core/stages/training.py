"""What the stages `baseline` and `train` share: they are the same function with different rows."""

from pathlib import Path

from scipy.special import expit

from backdoor_core import seeds
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import progress
from backdoor_core.contracts import View
from backdoor_core.files import replacing, write_json
from backdoor_core.learning.checkpoint import save_state, save_states
from backdoor_core.learning.progress import Epoch
from backdoor_core.learning.training import Trained, train_victim
from backdoor_core.learning.victim import save_victim
from backdoor_core.statistics import brier, expected_calibration_error
from backdoor_core.study import Study


def fit_and_save(study: Study, what: str, train: Rows, validation: Rows, fit_on: View, out: Path) -> None:
    """Fit the study's model on `train` and write model, preprocessing, learning curve and results into `out`.

    Both twins use the same seed: same initial weights, same order of stays.
    """
    params, model = study.params, study.model()
    with progress(what, params.train.of(model).epochs) as advance:

        def on_epoch(epoch: Epoch) -> None:
            advance(f"loss {epoch.train_loss:.4f}, validation {epoch.validation_loss:.4f}")

        seed = seeds.integer(params.seed, "training")
        resume = study.paths.run / f".{out.name}.resume.pt"
        done = train_victim(model, train, validation, fit_on, params, seed, on_epoch, resume)
    save_trained(study, done, validation, out)


def save_trained(study: Study, done: Trained, validation: Rows, out: Path) -> None:
    """Write model, preprocessing, learning curve and results into `out`."""
    save_victim(done.victim, out)
    save_state(done.last, out / "last.pt")
    save_states(done.states, out / "checkpoints.pt")
    write_json(out / "results.json", _results(study, done, validation))
    lines = ["epoch,train_loss,validation_loss,validation_auprc"]
    lines += [f"{e.epoch},{e.train_loss:.6f},{e.validation_loss:.6f},{e.validation_auprc:.6f}" for e in done.curve]
    with replacing(out / "learning_curve.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _results(study: Study, done: Trained, validation: Rows) -> dict[str, object]:
    victim, truth = done.victim, validation.label == 1
    logits = victim.logits(validation.view)
    plain, scaled = expit(logits), expit(logits / victim.temperature)
    best = done.curve[done.best_epoch - 1] if done.best_epoch else None
    return {
        "epochs": len(done.curve),
        "best_epoch": done.best_epoch,
        "train_loss": best.train_loss if best else None,
        "validation_loss": best.validation_loss if best else None,
        "threshold": victim.threshold,
        "threshold_rule": study.params.evaluate.threshold,
        "temperature": victim.temperature,
        "validation": {
            "ece": {
                "before": expected_calibration_error(plain, truth),
                "after": expected_calibration_error(scaled, truth),
            },
            "brier": {"before": brier(plain, truth), "after": brier(scaled, truth)},
        },
        "parameters": victim.parameters,
        "device": victim.device,
    }
