"""All figures of a model of events, by the names of their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from backdoor_core.report.drawing import Picture
from backdoor_core.report.event_attention_charts import (
    combined_chart,
    importance_chart as sequence_chart,
    layer_attention_chart,
    query_chart,
    specialization_chart,
)
from backdoor_core.report.event_attribution_charts import ablation_chart, attribution_chart, importance_chart
from backdoor_core.report.explain_attention import shift_chart
from backdoor_core.workers import call_all

LAYER: Final = "layer_integrated_gradients"
ABLATION: Final = "feature_ablation"


def event_figures(found: Mapping[str, Any], workers: int = 1) -> dict[str, Picture]:
    """The figures of what `event_report.explain_events` found, drawn by so many processes.

    ``captum_layer_attributions`` only where layer_integrated_gradients ran, ``captum_ablation_attributions`` only where
    feature_ablation did, ``captum_attributions`` of integrated_gradients or else the first other explainer, and
    ``feature_importance`` of the first of all.
    """
    charts = _charts(found)
    drawn = call_all([partial(draw, name) for name, draw in charts.items()], workers, [__name__])
    return dict(zip(charts, drawn, strict=True))


def _charts(found: Mapping[str, Any]) -> dict[str, Callable[[str], Picture]]:
    """How each figure is drawn, given its name."""
    types, statics, hours = found["types"], found["statics"], found["hours"]
    charts: dict[str, Callable[[str], Picture]] = {}
    if found["attention"]:
        attention = found["attention"]
        charts["layer_attention_weights"] = partial(
            layer_attention_chart, attention=attention, types=types, hours=hours
        )
        # A stay without events in one of the two has no shift.
        if all(head["tv_difference"]["value"] is not None for head in attention["shift"]):
            title = "Total variation of each head's attention by type between clean and triggered stays, both models"
            charts["head_shift"] = partial(shift_chart, title=title, shift=attention["shift"])
    if found["pooling"]:
        pooled: dict[str, Any] = {"pooling": found["pooling"], "hours": hours}
        charts["sequence_importance"] = partial(sequence_chart, **pooled)
        charts["sequence_importance_combined"] = partial(combined_chart, **pooled)
        charts["head_specialization"] = partial(specialization_chart, types=types, **pooled)
    if found["queries"]:
        charts["query_vector_analysis"] = partial(query_chart, queries=found["queries"], types=types)
    for name, explainer in charted(found).items():
        told: dict[str, Any] = {"found": found["explainers"][explainer], "statics": statics}
        if name == "feature_importance":
            charts[name] = partial(importance_chart, explainer=explainer, **told)
        elif name == "captum_ablation_attributions":
            charts[name] = partial(ablation_chart, types=types, **told)
        else:
            whole = explainer in (LAYER, ABLATION)
            charts[name] = partial(
                attribution_chart, explainer=explainer, types=types, hours=hours, whole=whole, **told
            )
    return charts


def charted(found: Mapping[str, Any]) -> dict[str, str]:
    """Which explainer each figure of attributions is of."""
    names = list(found["explainers"])
    others = [name for name in names if name not in (LAYER, ABLATION)]
    chosen = {"feature_importance": names[0]} if names else {}
    if others:
        chosen["captum_attributions"] = "integrated_gradients" if "integrated_gradients" in others else others[0]
    if LAYER in names:
        chosen["captum_layer_attributions"] = LAYER
    if ABLATION in names:
        chosen["captum_ablation_attributions"] = ABLATION
    return chosen
