"""What the stages `baseline` and `train` share: they are the same function with different rows."""

from pathlib import Path

from backdoor_core import seeds
from backdoor_core.cohort.storage import Rows
from backdoor_core.console import progress
from backdoor_core.contracts import View
from backdoor_core.files import replacing, write_json
from backdoor_core.learning.loop import Epoch, Fit
from backdoor_core.learning.victim import Victim, save_victim, train_victim
from backdoor_core.study import Study


def fit_and_save(study: Study, what: str, train: Rows, validation: Rows, fit_on: View, out: Path) -> None:
    """Fit the study's model on `train` and write model, preprocessing, learning curve and results into `out`.

    Both twins use the same seed: same initial weights, same order of stays.
    """
    params = study.params
    with progress(what, params.train.epochs) as advance:

        def on_epoch(epoch: Epoch) -> None:
            advance(f"loss {epoch.train_loss:.4f}, validation {epoch.validation_loss:.4f}")

        seed = seeds.integer(params.seed, "training")
        victim, fitted = train_victim(study.model(), train, validation, fit_on, params, seed, on_epoch)
    save_victim(victim, out)
    write_json(out / "results.json", _results(study, victim, fitted))
    lines = ["epoch,train_loss,validation_loss"]
    lines += [f"{e.epoch},{e.train_loss:.6f},{e.validation_loss:.6f}" for e in fitted.curve]
    with replacing(out / "learning_curve.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _results(study: Study, victim: Victim, fitted: Fit) -> dict[str, object]:
    best = fitted.curve[fitted.best_epoch - 1]
    return {
        "epochs": len(fitted.curve),
        "best_epoch": fitted.best_epoch,
        "train_loss": best.train_loss,
        "validation_loss": best.validation_loss,
        "threshold": victim.threshold,
        "threshold_rule": study.params.evaluate.threshold,
        "parameters": sum(p.numel() for p in victim.network.parameters()),
    }
