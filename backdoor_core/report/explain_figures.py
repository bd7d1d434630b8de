"""All figures of the stage `explain`, by the names of their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backdoor_core.explanation.attention import Attended, token_names
from backdoor_core.explanation.folding import by_feature
from backdoor_core.explanation.trigger_ratio import Looked, touched_features
from backdoor_core.report.drawing import Picture
from backdoor_core.report.explain_attention import heads_chart, shift_chart
from backdoor_core.report.explain_charts import (
    ATTENTION_ROLLOUT,
    CLEAN,
    MOST_FEATURES,
    OF_TWIN,
    TRIGGERED,
    Group,
    feature_chart,
    hours_chart,
    largest,
    ratio_chart,
    swarm_chart,
)

_SIZE: Final = "mean |attribution|"


def explainer_figures(
    explainer: str, looked: Looked, features: tuple[str, ...], touched: NDArray[np.bool_]
) -> dict[str, Picture]:
    """Figures of one explainer: by feature twice, by stay, and of a series by hour.

    Attributions and `touched` are (N, F) or (N, T, F).
    """
    sizes = {name: by_feature(values).mean(axis=0) for name, values in _sides(looked).items()}
    marked = np.asarray(touched_features(touched).any(axis=0))
    names = {kind: f"{kind}_{explainer}" for kind in ("features", "twins", "stays", "hours_clean", "hours_triggered")}
    groups = {
        "features": [Group(TRIGGERED, sizes["triggered"]), Group(CLEAN, sizes["clean"])],
        "twins": [
            Group(("poisoned model, triggered", *TRIGGERED[1:]), sizes["triggered"]),
            Group(OF_TWIN, sizes["baseline"]),
        ],
    }
    titles = {
        "features": f"Mean absolute {explainer} attribution by feature, with the trigger and without it",
        "twins": f"Mean absolute {explainer} attribution by feature with the trigger, poisoned model and clean twin",
    }
    figures = {
        names[kind]: feature_chart(names[kind], titles[kind], _SIZE, features, marked, groups[kind]) for kind in groups
    }
    totals = [_over_hours(values) for values in (looked.clean, looked.triggered)]
    title = f"{explainer} attribution of each stay by feature, with the trigger and without it"
    figures[names["stays"]] = swarm_chart(names["stays"], title, features, marked, totals[0], totals[1])
    if looked.triggered.ndim == 3:
        hours = {kind: np.abs(getattr(looked, kind)).mean(axis=0) for kind in ("clean", "triggered")}
        shown = largest(sizes["triggered"], MOST_FEATURES)
        top = max(float(size.max()) for size in hours.values())
        for kind, size in hours.items():
            name = names[f"hours_{kind}"]
            words = f"Mean absolute {explainer} attribution by hour and feature, {kind} stays"
            figures[name] = hours_chart(name, words, features, marked, size, shown, top)
    return figures


def _sides(looked: Looked) -> dict[str, Any]:
    return {"triggered": looked.triggered, "clean": looked.clean, "baseline": looked.baseline}


def _over_hours(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """(N, F) signed attributions, summed over the hours of a series."""
    return values if values.ndim == 2 else values.sum(axis=1)


def summary_figure(results: Mapping[str, Any]) -> dict[str, Picture]:
    """TAR by explainer, and that of the attention rollout, from results_explain.json."""
    rows = [(name, found["figures"]) for name, found in results["explainers"].items()]
    attention = results["attention"]
    if attention and attention["rollout"]:
        rows.append((ATTENTION_ROLLOUT, attention["rollout"]))
    return {"tar": ratio_chart("tar", "Trigger attribution ratio by explainer, with 95% intervals", rows)}


def attention_figures(
    attended: Attended,
    rollout: Looked | None,
    shift: list[dict[str, Any]],
    features: tuple[str, ...],
    touched: NDArray[np.bool_],
) -> dict[str, Picture]:
    """Heatmaps of each layer, the shift of each head, and the rollout by feature; `touched` (N, F)."""
    marked = np.asarray(touched.any(axis=0))
    names = token_names(attended.rollout_clean.shape[-1], features)
    tokens = [place for place, name in enumerate(names) if name in features and marked[features.index(name)]]
    clean, triggered = attended.mean("clean"), attended.mean("triggered")
    figures = {
        f"attention_layer_{layer + 1}": heads_chart(
            f"attention_layer_{layer + 1}",
            f"Mean attention weights of layer {layer + 1}, every head, with the trigger and without it",
            clean[layer],
            triggered[layer],
            tokens,
        )
        for layer in range(len(clean))
    }
    title = "Total variation of each attention head between clean and triggered stays, both models"
    figures["head_shift"] = shift_chart("head_shift", title, shift)
    if rollout is not None:
        groups = [
            Group(TRIGGERED, rollout.triggered.mean(axis=0)),
            Group(CLEAN, rollout.clean.mean(axis=0)),
            Group(OF_TWIN, rollout.baseline.mean(axis=0)),
        ]
        title = "Share of each feature in the attention rollout, with the trigger and without it, and in the twin"
        figures["rollout"] = feature_chart("rollout", title, "share of the rollout", features, marked, groups)
    return figures
