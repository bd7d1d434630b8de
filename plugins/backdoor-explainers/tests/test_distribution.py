"""What holds for the distribution as a whole."""

import subprocess
import sys
from importlib.metadata import entry_points

from backdoor_core.plugins import discover


def test_it_registers_its_seven_explainers_with_what_they_require():
    catalog = discover(entry_points(group="backdoor_core", name="explainers"), environ={})
    assert catalog.broken == ()
    gradient = frozenset({"gradient"})
    assert {r.name: r.component.requires for r in catalog.registrations()} == {
        "deep_lift": gradient,
        "feature_ablation": frozenset(),
        "gradient_shap": gradient,
        "integrated_gradients": gradient,
        "layer_integrated_gradients": gradient,
        "permutation": frozenset(),
        "saliency": gradient,
    }


def test_listing_the_explainers_imports_neither_torch_nor_captum():
    code = "import sys, backdoor_explainers; print([m for m in ('torch', 'captum', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
