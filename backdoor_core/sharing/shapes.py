"""The shapes of what may leave a study or a sweep: the keys of each JSON file that are copied.

Left out everywhere are the free-form ``details`` of plugins, sentences, what a trigger learned of the data
(``fitted``), error messages, and whatever tells of single stays: the manifest's ``stays``, the ``story`` of one stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from backdoor_core.sharing.allowed import Each, Leaf

NUMBER, NUMBERS, NAME, CONFIG = Leaf.NUMBER, Leaf.NUMBERS, Leaf.NAME, Leaf.CONFIG


def _alike(keys: Iterable[str], shape: Any) -> dict[str, Any]:
    return dict.fromkeys(keys, shape)


def _numbered(names: str) -> dict[str, Any]:
    return _alike(names.split(), NUMBER)


FIGURE: Final = {"value": NUMBER, "low": NUMBER, "high": NUMBER}
_FIGURES: Final = Each(FIGURE)
_CURVE: Final = {"value": NUMBERS, "low": NUMBERS, "high": NUMBERS}
_RATES: Final = {**_numbered("label stays"), **_alike(("asr", "asr_baseline", "asr_lift"), FIGURE), "note": NAME}
_CONTRAST: Final = {**_alike(("clean", "triggered", "difference"), FIGURE), "note": NAME}
_BINS: Final = [_numbered("stays positives mean rate low high")]
_SHIFTS: Final = _alike(("levels", "quantiles", "edges", "shares"), NUMBERS)
_PLAUSIBILITY: Final = {
    "modality": NAME,
    **_numbered("stays stays_given patients reference_stays"),
    "touched": {"cells": NUMBER, **_alike(("stays", "removed", "filled", "outside"), FIGURE), "note": NAME},
    "percentiles": [{"feature": NAME, **_numbered("cells median p2_5 p97_5"), "note": NAME}],
    "mahalanobis": _CONTRAST,
    "knn": {**_CONTRAST, "k": NUMBER},
    "missingness": {**_CONTRAST, "components": NUMBER},
    "correlation": {**_numbered("mean max pairs lost"), "pair": [NAME], "note": NAME},
    "classifier": {"auroc": FIGURE, "control": FIGURE, "folds": NUMBER, "note": NAME},
}
_SIDES: Final = ("poisoned", "baseline")
EVALUATION: Final = {
    "clean": _FIGURES,
    "baseline": {"clean": _FIGURES},
    "attack": _FIGURES,
    "verdict": {"code": NAME, "harmed": NUMBER},
    "test": _numbered("stays positives attacked"),
    "asr_curve": {
        "thresholds": NUMBERS,
        **_alike(_SIDES, {"threshold": NUMBER, "triggered": _CURVE, "clean": _CURVE}),
    },
    "asr_by_class": [_RATES],
    "subgroups": [
        {
            "group": NAME,
            "value": NAME,
            "attack": _RATES,
            "clean": {**_numbered("stays positives"), **_alike(_SIDES, _FIGURES), "note": NAME},
        }
    ],
    "confidence_shift_distribution": _alike(_SIDES, _SHIFTS),
    "reliability": _alike(_SIDES, _BINS),
    "plausibility": _PLAUSIBILITY,
    "exposure": [
        {"feature": NAME, **_numbered("cells removed before after clipped nulled removed_to moved indicator")}
    ],
    "uncalibrated": Each(_FIGURES),
}
_FLAGS: Final = {"flagged": NUMBER, **_alike(("recall", "precision", "flagged_share", "fpr"), FIGURE)}
_RANKED: Final = {
    **_numbered("rows poisoned"),
    **_FLAGS,
    **_alike(("auroc", "partial_auroc", "average_precision", "tpr_at_1_fpr", "tpr_at_5_fpr"), FIGURE),
}
_RUN: Final = {
    **_RANKED,
    "by_label": Each(_RANKED),
    "calibrated": _FLAGS,
    "bias": Each(Each({"clean_rows": NUMBER, "fpr": FIGURE})),
}
DETECTION: Final = Each({"oracle": NUMBER, "scope": NAME, "poisoned": _RUN, "null": _RUN})

_CODE: Final = {
    **_alike(("code", "description", "type"), NAME),
    **_numbered("touched stays triggered clean baseline signed score twin"),
}
_POOLING: Final = {"heads": NUMBER, **_alike(("by_hour", "combined", "alike", "entropy"), NUMBERS)}
_EVENT_SIDES: Final = ("triggered", "clean", "baseline")
_HEAD: Final = [
    {
        **_numbered("layer head"),
        **{f"{name}{end}": FIGURE for name in ("tv", "kl") for end in ("", "_baseline", "_difference")},
        **{f"{name}_{side}": FIGURE for name in ("local", "global", "entropy") for side in _EVENT_SIDES},
    }
]
EVENTS: Final = {
    "stays": NUMBER,
    "hours": {"types": [NAME], **_numbered("start width bins")},
    **_alike(("types", "groups", "statics"), [NAME]),
    "attention": {
        **_numbered("layers heads near_hours"),
        "near": FIGURE,
        "shift": _HEAD,
        **_alike(("by_hour", "by_type"), _alike(_EVENT_SIDES, NUMBERS)),
    },
    "pooling": Each({**_POOLING, **_alike(("by_type", "type_alike", "similarity"), NUMBERS)}),
    "queries": [{"head": NUMBER, "toward": [_CODE], "away": [_CODE], "cosine": NUMBERS, "cosine_twin": NUMBERS}],
    "explainers": Each(
        {
            **_alike(("by_type_hour", "by_group", "by_static"), _alike(_EVENT_SIDES, NUMBERS)),
            "by_code": [_CODE],
            "windows": _alike(_EVENT_SIDES, [_numbered("from to hours share alike")]),
        }
    ),
}
EXPLANATION: Final = {
    "explainers": Each(
        {
            "figures": _FIGURES,
            "by_feature": _FIGURES,
            "without_attribution": Each(NUMBER),
            "convergence": Each(NUMBER),
        }
    ),
    "attention": {
        **_numbered("layers heads averaged"),
        "tokens": [NAME],
        "shift": _HEAD,
        "most_moved": [_numbered("layer head")],
        "rollout": _FIGURES,
    },
    "events": EVENTS,
    "figures": [NAME],
    "note": NAME,
    "stays": _numbered("attacked explained touched"),
    **_numbered("target steps retrains"),
    "baseline": NAME,
    "modality": NAME,
    "touched": Each(NUMBER),
}
_TPR: Final = {
    **_numbered("fpr value low high found members reached_fpr by_luck"),
    "clopper_pearson": NUMBERS,
    "why": NAME,
}
_AUDIT: Final = {
    **_numbered("runs records members nonmembers patients smallest_fpr"),
    "auc": FIGURE,
    "auc_by_run": NUMBERS,
    "auc_over_runs": FIGURE,
    "tpr": [_TPR],
    "roc": [_numbered("fpr tpr")],
    "over_blind": FIGURE,
    "verdict": {"word": NAME},
    "widened": FIGURE,
}
AUDIT: Final = {
    "audits": Each(
        {
            "control": NUMBER,
            **_alike(_SIDES, _AUDIT),
            "difference": FIGURE,
            "subgroups": [
                {**_alike(("by", "value", "why"), NAME), **_numbered("members nonmembers"), **_alike(_SIDES, FIGURE)}
            ],
        }
    ),
    "note": NAME,
    **_numbered("members nonmembers references"),
    "loss": Each(Each(NUMBER)),
    "auroc": Each(NUMBER),
    "poisoned_stays": {**_numbered("members nonmembers"), **_alike(_SIDES, FIGURE)},
}
CLEANSING: Final = {
    "flags": NAME,
    "undefended": {"figures": _FIGURES},
    "filters": Each({**_numbered("removed poisoned_removed"), "figures": _FIGURES, "random": _FIGURES, "note": NAME}),
    "repairs": Each(
        {
            "figures": _FIGURES,
            "privacy": {
                "promised": _numbered("epsilon delta"),
                **_numbered("canaries in_training delta confidence epsilon ceiling"),
            },
        }
    ),
}
TRAINING: Final = {
    **_numbered("epochs best_epoch train_loss validation_loss threshold temperature parameters"),
    **_alike(("threshold_rule", "device"), NAME),
    "validation": Each(_numbered("before after")),
}
POISON: Final = {
    "trigger": {"name": NAME, "options": CONFIG},
    **_numbered("target seed training_stays poisoned_stays cover_stays rate"),
    **_alike(("labels", "mode", "selection"), NAME),
}
SPLITS: Final = {"summary": Each(_numbered("stays patients positives prevalence"))}
RUN_CONFIG: Final = _alike(
    ("params", "plugins", "git", "code", "versions", "data", "device", "threads", "note"), CONFIG
)
_PRIVACY: Final = _numbered("epsilon delta noise_multiplier sample_rate steps expected_batch max_grad_norm")
NOTES: Final = {
    "study": CONFIG,
    "corpus": {
        "corpus": NAME,
        **_numbered("notes patients tokenizer stopping vocabulary"),
        "dropped": _numbered("empty repeated"),
        "members": NUMBERS,
        "nonmembers": NUMBERS,
        "characters": {"mean": NUMBER},
    },
    "recipes": Each(
        {
            "utility": _FIGURES,
            "kept_epochs": NUMBERS,
            "audits": Each({"control": NUMBER, **_AUDIT, "band": [_numbered("fpr value low high")]}),
            "curve": [{**_numbered("epoch seeds member_nll held_out_nll"), "auc": FIGURE}],
            "privacy": {
                "promised": [_PRIVACY],
                "one_run": {
                    "promised": _PRIVACY,
                    **_numbered("canaries in_training delta confidence epsilon ceiling"),
                    "trials": [_numbered("included excluded right epsilon")],
                },
            },
        }
    ),
    "differences": [{"of": NAME, "less": NAME, "auc": _FIGURES}],
}

_PLACE: Final = {"model": NAME, "trigger": NAME, "rate": NUMBER, "parameters": CONFIG}
_ROC: Final = Each(Each(NUMBERS))
_DOSE: Final = {**FIGURE, "bound": NAME, "per_seed": Each(NUMBER), "note": NAME}
CELL: Final = {
    "inputs": NAME,
    "status": NAME,
    "axes": {**_PLACE, "seed": NUMBER},
    "figures": Each(NUMBER),
    "roc": _ROC,
    "null_lift": NUMBERS,
}
_TEST: Final = {
    **_PLACE,
    **_alike(("family", "metric", "against", "note"), NAME),
    **_numbered("n difference t_low t_high effect_size p p_holm"),
}
AGGREGATED: Final = {
    "name": NAME,
    "study": CONFIG,
    "axes": CONFIG,
    "cells": {**_numbered("done failed"), "errors": [{"cell": NAME}]},
    "groups": [
        {
            **_PLACE,
            "seeds": NUMBERS,
            "metrics": Each(_numbered("n mean sd t_low t_high boot_low boot_high")),
            "null_lift": {"values": NUMBERS, **_numbered("low high")},
            "null_asr": _numbered("low high"),
            "roc": _ROC,
        }
    ],
    "tests": [_TEST],
    "doses": [
        {
            **_PLACE,
            "effective": _DOSE,
            "detectors": Each({"detectable": _DOSE, "gap": {**FIGURE, "bound": NAME, "note": NAME}}),
        }
    ],
}
