"""The figures and the page section of a model of events, on stays of every kind."""

import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from event_small import attribution, inserted, small_victim, small_view
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backdoor_core import report
from backdoor_core.explanation.event_attribution import EventAttribution
from backdoor_core.explanation.event_report import explain_events
from backdoor_core.report import drawing, wording
from backdoor_core.report.event_attention_charts import combined_chart
from backdoor_core.report.event_figures import charted, event_figures
from backdoor_core.report.event_section import event_section, signed, size
from backdoor_core.words import percent

ALWAYS = {
    "layer_attention_weights",
    "sequence_importance",
    "sequence_importance_combined",
    "head_specialization",
    "query_vector_analysis",
}
LONG = (
    "LAB//" + "a very long name of a measurement in $x$ & <units> " * 4,
    "DRUG WITH A LONG TYPE NAME//b",
    "X//c",
    "X//d",
)


def found_of(clean, view, touched, explainers, scale=1.0):
    victims = {"poisoned": small_victim(view), "baseline": small_victim(view, seed=1)}

    def of(chosen, seed):
        made = attribution(chosen, seed)
        return EventAttribution(made.events * np.float32(scale), made.statics * np.float32(scale))

    attributions = {
        name: SimpleNamespace(triggered=of(view, 0), clean=of(clean, 0), baseline=of(view, 1)) for name in explainers
    }
    weights = np.ones((3, len(clean)), dtype=np.int64)
    return explain_events(victims, clean, view, touched, attributions, weights, 1, min_stays=1)


def page_of(found, figures):
    pictures = {name: drawn.svg for name, drawn in figures.items()}
    environment = Environment(
        loader=FileSystemLoader(Path(report.__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(estimate=wording.estimate, number=wording.number, percent=percent)
    chart = (
        "{% macro chart(svg, caption) %}<figure>{{ svg }}<figcaption>{{ caption }}</figcaption></figure>{% endmacro %}"
    )
    template = environment.from_string(f"{chart}<main>{{% include 'events.html.j2' %}}</main>")
    return template.render(events=event_section(found, pictures))


@pytest.fixture(scope="module")
def whole():
    """All that is told of a few stays, and its figures."""
    clean = small_view((3, 0, 7, 4))
    names = ("saliency", "integrated_gradients", "layer_integrated_gradients", "feature_ablation")
    found = found_of(clean, *inserted(clean), names)
    return found, event_figures(found)


def draw_as(monkeypatch, svg=None):
    """Leaves the PNG of figures out, and where `svg` is given, draws nothing at all: to draw is slow."""
    draw = drawing._saved

    def saved(fill, size, kinds, dpi=None):
        pictures = [svg] if svg is not None else draw(fill, size, ["svg"], dpi)
        return [pictures[0] if kind == "svg" else b"" for kind in kinds]

    monkeypatch.setattr(drawing, "_saved", saved)


def test_every_figure_is_there_by_its_name(whole):
    found, figures = whole
    assert set(figures) == ALWAYS | {
        "head_shift",
        "feature_importance",
        "captum_attributions",
        "captum_layer_attributions",
        "captum_ablation_attributions",
    }
    for drawn in figures.values():
        assert ET.fromstring(drawn.svg).get("aria-label")
        assert drawn.png.startswith(b"\x89PNG")
    assert charted(found)["feature_importance"] == "saliency"
    assert charted(found)["captum_attributions"] == "integrated_gradients"


def test_figures_are_the_same_again(whole):
    found, figures = whole
    again = combined_chart("sequence_importance_combined", found["pooling"], found["hours"])
    assert (figures["sequence_importance_combined"].svg, figures["sequence_importance_combined"].png) == (
        again.svg,
        again.png,
    )


@pytest.mark.parametrize(
    ("explainers", "more"),
    [
        ((), set()),
        (("layer_integrated_gradients",), {"feature_importance", "captum_layer_attributions"}),
        (("feature_ablation",), {"feature_importance", "captum_ablation_attributions"}),
        (("gradient_shap",), {"feature_importance", "captum_attributions"}),
    ],
)
def test_figures_of_explainers_that_did_not_run_are_left_out(explainers, more, monkeypatch):
    draw_as(monkeypatch, b"<svg/>")
    clean = small_view((3, 4))
    found = found_of(clean, *inserted(clean), explainers)
    figures = event_figures(found)
    assert set(figures) == ALWAYS | {"head_shift"} | more
    page = page_of(found, figures)
    assert ("Critical time windows" in page) == bool(explainers)
    assert "One stay’s story" in page


def odd(kind):
    """Findings of stays without events, with one that the trigger put in and a long name, or without attributions."""
    clean = {
        "no events": small_view((0, 0)),
        "one event": small_view((0,), codes=LONG),
        "nothing touched": small_view((1, 3)),
        "all zero": small_view((3, 5)),
    }[kind]
    view, touched = inserted(clean)
    if kind in ("no events", "nothing touched"):
        view, touched = clean, np.zeros(len(clean.code), dtype=bool)
    if kind == "one event":
        view.code[:] = 0
    return found_of(clean, view, touched, ("integrated_gradients",), 0.0 if kind == "all zero" else 1.0)


@pytest.mark.parametrize("kind", ["no events", "one event", "nothing touched", "all zero"])
def test_odd_stays_are_drawn_and_told(kind, monkeypatch):
    draw_as(monkeypatch)
    found = odd(kind)
    if kind in ("nothing touched", "all zero"):
        found |= {"queries": None, "pooling": None}
    if kind == "all zero":
        found |= {"attention": None}
    figures = event_figures(found)
    page = page_of(found, figures)
    ET.fromstring(page)
    assert {"feature_importance", "captum_attributions"} <= set(figures)
    assert ("The explained stays have no events." in page) == (kind == "no events")
    assert ("All attributions are 0" in page) == (kind == "all zero")
    assert ("trigger)</strong>" in page) == (kind in ("one event", "all zero"))
    assert ("&lt;units&gt;" in page) == (kind == "one event")


def test_page_tells_the_tables_and_the_story(whole):
    found, figures = whole
    page = page_of(found, figures)
    story = found["story"]
    assert f"Stay {story['stay_id']}" in page
    for event in story["timeline"]:
        assert event["description"] in page
    window = found["explainers"]["saliency"]["windows"]["triggered"][0]
    assert f"{window['from']}–{window['to']}\u00a0h" in page
    assert percent(window["share"]) in page
    section = event_section(found, {})
    assert len(section["codes"]) <= 20
    values = np.array(found["explainers"]["saliency"]["by_type_hour"]["triggered"])
    place = [row["type"] for row in section["over_time"]["rows"]].index("trigger")
    assert section["over_time"]["rows"][place]["cells"][0] == size(values[-1, :2].sum())


def test_numbers_have_two_digits():
    assert [signed(value) for value in (0.0, 0.0312, -1.26, 12.3, -4321.0)] == ["0", "+0.031", "−1.3", "+12", "−4,321"]
    assert [size(value) for value in (0.0, 0.1, 9.96)] == ["0", "0.10", "10"]
