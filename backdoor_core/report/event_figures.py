"""All figures of a model of events, by the names of their files."""

from __future__ import annotations

from collections.abc import Mapping
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

LAYER: Final = "layer_integrated_gradients"
ABLATION: Final = "feature_ablation"


def event_figures(found: Mapping[str, Any]) -> dict[str, Picture]:
    """The figures of what `event_report.explain_events` found.

    ``captum_layer_attributions`` only where layer_integrated_gradients ran, ``captum_ablation_attributions`` only where
    feature_ablation did, ``captum_attributions`` of integrated_gradients or else the first other explainer, and
    ``feature_importance`` of the first of all.
    """
    types, statics, hours = found["types"], found["statics"], found["hours"]
    figures: dict[str, Picture] = {}
    if found["attention"]:
        name = "layer_attention_weights"
        figures[name] = layer_attention_chart(name, found["attention"], types, hours)
        # A stay without events in one of the two has no shift.
        if all(head["tv_difference"]["value"] is not None for head in found["attention"]["shift"]):
            title = "Total variation of each head's attention by type between clean and triggered stays, both models"
            figures["head_shift"] = shift_chart("head_shift", title, found["attention"]["shift"])
    if found["pooling"]:
        figures["sequence_importance"] = sequence_chart("sequence_importance", found["pooling"], hours)
        name = "sequence_importance_combined"
        figures[name] = combined_chart(name, found["pooling"], hours)
        figures["head_specialization"] = specialization_chart("head_specialization", found["pooling"], types, hours)
    if found["queries"]:
        figures["query_vector_analysis"] = query_chart("query_vector_analysis", found["queries"], types)
    for name, explainer in charted(found).items():
        answer = found["explainers"][explainer]
        if name == "feature_importance":
            figures[name] = importance_chart(name, answer, explainer, statics)
        elif name == "captum_ablation_attributions":
            figures[name] = ablation_chart(name, answer, types, statics)
        else:
            whole = explainer in (LAYER, ABLATION)
            figures[name] = attribution_chart(name, answer, explainer, types, statics, hours, whole=whole)
    return figures


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
