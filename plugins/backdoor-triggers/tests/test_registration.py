import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from backdoor_core.plugins import discover

CATALOG = discover(entry_points(group="backdoor_core", name="triggers"), environ={})
GUIDE = Path(__file__).parents[3] / "docs" / "triggers.md"


def test_the_distribution_registers_its_triggers():
    assert [registration.name for registration in CATALOG.registrations()] == [
        "correlation", "event_order", "feature_shift", "hybrid", "in_range", "missingness", "none", "rare_event",
        "rare_value", "sampling_pattern", "temporal_pattern",
    ]  # fmt: skip
    assert CATALOG.broken == ()


@pytest.mark.parametrize("registration", CATALOG.registrations(), ids=lambda registration: registration.name)
def test_the_guide_tells_every_option_with_its_default(registration):
    section = GUIDE.read_text().split(f"\n## {registration.name}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): yaml.safe_load(default.strip(" `")) for name, default in rows}
    assert told == json.loads(registration.component.Options().model_dump_json())
    for name, field in registration.component.Options.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("registration", CATALOG.registrations(), ids=lambda registration: registration.name)
def test_the_guide_tells_the_views(registration):
    if registration.name == "hybrid":
        return
    [row] = [line for line in GUIDE.read_text().splitlines() if line.startswith(f"| [`{registration.name}`]")]
    assert set(row.split("|")[2].strip().split(", ")) == registration.component.modalities
    assert row.split("|")[4].strip().startswith("the same") == registration.component.idempotent
