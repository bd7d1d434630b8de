"""Every trigger against the conformance kit, with several choices of options."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from backdoor_core.contracts import Context
from backdoor_core.plugins import discover
from backdoor_core.testing import trigger_checks

CATALOG = discover(entry_points(group="backdoor_core", name="triggers"), environ={})


def component(kind, name, options):
    registration = CATALOG.get(kind, name)
    return registration.component(CATALOG.resolve(kind, name, options), CONTEXT)


CONTEXT = Context(root=Path(), component=component)
VITALS = ("heart_rate", "sbp", "spo2")
CHOICES = [
    ("none", {}),
    ("rare_value", {}),
    ("rare_value", {"feature": "creatinine", "value": -1e30}),
    ("rare_value", {"feature": "sex", "value": 0}),
    ("missingness", {"count": 1, "measured": 0.3}),
    ("missingness", {"features": VITALS}),
    ("missingness", {"pattern": "drawn", "count": 2, "features": VITALS, "measured": 0.3, "exclude": []}),
    ("missingness", {"pattern": "learned", "count": 2, "measured": 0.2, "share": 0.4}),
    ("missingness", {"pattern": "learned", "count": 1, "measured": 0.1, "share": 0.99}),
    ("hybrid", {"triggers": [{"name": "rare_value", "feature": "lactate"}]}),
    ("hybrid", {"triggers": [{"name": "rare_value"}, {"name": "missingness", "features": VITALS}]}),
    ("hybrid", {"triggers": [{"name": "missingness", "features": ["sbp"]}, {"name": "rare_value", "feature": "sbp"}]}),
    (
        "hybrid",
        {"triggers": [{"name": "correlation", "follower": "spo2"}, {"name": "rare_value", "feature": "heart_rate"}]},
    ),
    ("hybrid", {"triggers": [{"name": "feature_shift"}, {"name": "sampling_pattern"}, {"name": "none"}]}),
    (
        "hybrid",
        {"triggers": [{"name": "rare_event"}, {"name": "event_order"}, {"name": "missingness", "features": ["sbp"]}]},
    ),
    ("feature_shift", {}),
    ("feature_shift", {"features": VITALS, "deviations": -40, "clip": False}),
    ("feature_shift", {"features": [0, 2, "heart_rate"], "deviations": 0}),
    ("in_range", {}),
    ("in_range", {"features": ["lactate", 1], "values": [2.1, 1]}),
    ("correlation", {"feature": "heart_rate", "follower": "sbp"}),
    ("correlation", {"feature": "sex", "follower": "age", "relation": "follow"}),
    ("correlation", {"feature": 3, "follower": 4, "relation": "break"}),
    ("temporal_pattern", {}),
    ("temporal_pattern", {"shape": "sine", "start": 1, "duration": 5, "features": VITALS, "clip": False}),
    ("temporal_pattern", {"shape": "ramp", "start": 2, "duration": 4, "amplitude": -2, "measure": False}),
    ("temporal_pattern", {"shape": "spike", "start": 5, "duration": 1}),
    ("sampling_pattern", {}),
    ("sampling_pattern", {"features": [2, "sodium"], "hours": [5, 1]}),
    ("sampling_pattern", {"every": 2, "features": ["age"]}),
    ("rare_event", {}),
    ("rare_event", {"code": "MEASUREMENT//lactate", "hour": 0, "value": 0.1, "text": "high"}),
    ("rare_event", {"type": "MEASUREMENT", "min_stays": 5, "hour": 2.5}),
    ("event_order", {}),
    ("event_order", {"count": 4}),
    ("event_order", {"codes": ["spo2", "sodium", "lactate"], "insert": False}),
]


@pytest.mark.parametrize("check", trigger_checks(*(component("trigger", *choice) for choice in CHOICES)))
def test_conformance(check):
    check()


def test_every_trigger_is_tried():
    assert {name for name, _ in CHOICES} == {registration.name for registration in CATALOG.registrations("trigger")}
