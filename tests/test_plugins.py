"""Discovery with real small distributions: a package and a dist-info folder on sys.path."""

import json
import subprocess
import sys
from importlib import metadata

import pytest

from backdoor_core.errors import BackdoorError
from backdoor_core.files import json_text
from backdoor_core.plugins import BrokenPlugin, Catalog, code_hash, discover, lock_entry

DETECTOR = """
from pathlib import Path
from pydantic import Field
from backdoor_core.contracts import Detector, Options, hookimpl

class {cls}Options(Options):
    share: float = Field(0.1, gt=0, lt=1, description="what part to flag")
    reduce: str = "pca"
    rules: Path = Path("rules.csv")
    limit: float = float("inf")

class {cls}(Detector):
    '''Flags a share.'''
    name = "{name}"
    Options = {cls}Options
    def detect(self, case): ...

@hookimpl
def register_detectors(register):
    register({cls})
"""
TRIGGER = """
from backdoor_core.contracts import NoOptions, Trigger, hookimpl
from pydantic import BaseModel

class Good(Trigger):
    name = "good"
    modalities = frozenset({"table"})
    def apply(self, view, fitted, rng): return view

BODY

@hookimpl
def register_triggers(register):
    register(THING)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write a distribution with one package into a folder of its own; the modules are forgotten afterwards."""
    installed = []

    def write(distribution, source, key=None, version="1.0", package=None, folder=None):
        package = package or distribution.lower().replace("-", "_").replace(".", "_")
        site = tmp_path / (folder or "site")
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text(source)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[backdoor_core]\n{key or package} = {package}\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(str(site))
        installed.append(package)
        return site / package

    yield write
    for name in [m for m in sys.modules if m.partition(".")[0] in installed]:
        del sys.modules[name]


def find(tmp_path, environ=None, folder="site"):
    """`discover` with what the fixture installed, and nothing else of this machine."""
    found = [e for d in metadata.distributions(path=[str(tmp_path / folder)]) for e in d.entry_points]
    return discover(found, environ or {})


def detector(name):
    return DETECTOR.format(cls=name.title().replace("_", ""), name=name)


def trigger(thing, body=""):
    return TRIGGER.replace("BODY", body).replace("THING", thing)


# ------------------------------------------------------------------------------------------- what works
def test_a_component_knows_its_distribution(install, tmp_path):
    install("Acme-Detect", detector("acme"), version="2.3")
    [registration] = find(tmp_path).registrations()
    assert (registration.kind, registration.name, registration.component.__name__) == ("detector", "acme", "Acme")
    assert (registration.distribution, registration.version) == ("Acme-Detect", "2.3")
    assert registration.entry_point == "acme_detect"


def test_registrations_are_sorted_and_chosen_by_kind(install, tmp_path):
    install("zeta", detector("alpha"))
    install("acme", detector("zulu"))
    install("mid", trigger("Good"))
    catalog = find(tmp_path)
    assert [r.name for r in catalog.registrations()] == ["good", "alpha", "zulu"]
    assert [r.name for r in catalog.registrations("detector")] == ["alpha", "zulu"]
    assert catalog.registrations("model") == []


def test_the_installed_plugins_are_found_without_arguments(install, tmp_path):
    install("acme-x", detector("acme_x"))
    catalog = discover(environ={"BACKDOOR_LOAD_PLUGINS": "acme-x"})
    assert [r.name for r in catalog.registrations()] == ["acme_x"]


def test_the_process_environment_is_the_default(install, tmp_path, monkeypatch):
    install("acme", detector("acme"))
    monkeypatch.setenv("BACKDOOR_LOAD_PLUGINS", "")
    assert discover().registrations() == []


def test_an_entry_point_made_by_hand_has_a_name_too(install, tmp_path):
    install("acme", detector("acme"))
    [registration] = discover([metadata.EntryPoint("acme", "acme", "backdoor_core")], {}).registrations()
    assert (registration.distribution, registration.version) == ("acme", "unknown")


def test_loading_the_catalog_imports_no_heavy_library():
    program = (
        "import sys, backdoor_core.plugins, backdoor_core.listing; print({'torch', 'sklearn', 'dvc'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -------------------------------------------------------------------------------- the environment switches
@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["one", "two"]),
        ({"BACKDOOR_LOAD_PLUGINS": "acme-one"}, ["one"]),
        ({"BACKDOOR_LOAD_PLUGINS": " ACME_One , acme.two,"}, ["one", "two"]),
        ({"BACKDOOR_LOAD_PLUGINS": ""}, []),
        ({"BACKDOOR_BLOCK_PLUGINS": "acme_two"}, ["one"]),
        ({"BACKDOOR_BLOCK_PLUGINS": ""}, ["one", "two"]),
        ({"BACKDOOR_LOAD_PLUGINS": "acme-one,acme-two", "BACKDOOR_BLOCK_PLUGINS": "acme-one"}, ["two"]),
    ],
)
def test_variables_choose_distributions(install, tmp_path, environ, names):
    install("acme-one", detector("one"))
    install("acme-two", detector("two"))
    assert [r.name for r in find(tmp_path, environ).registrations()] == names


@pytest.mark.parametrize("variable", ["BACKDOOR_LOAD_PLUGINS", "BACKDOOR_BLOCK_PLUGINS"])
def test_an_unknown_distribution_in_a_variable_is_an_error(install, tmp_path, variable):
    install("acme-one", detector("one"))
    with pytest.raises(BackdoorError) as caught:
        find(tmp_path, {variable: "acme-oen"})
    expected = (
        f"{variable} names 'acme-oen', which is no installed plugin; did you mean 'acme-one'? Installed: acme-one"
    )
    assert str(caught.value) == expected


def test_a_blocked_plugin_is_not_even_imported(install, tmp_path):
    install("acme-bad", "raise RuntimeError('imported')")
    catalog = find(tmp_path, {"BACKDOOR_BLOCK_PLUGINS": "acme-bad"})
    assert catalog == Catalog((), (), ("acme-bad",))
    with pytest.raises(BackdoorError, match="Left out by BACKDOOR_LOAD_PLUGINS or BACKDOOR_BLOCK_PLUGINS: acme-bad"):
        catalog.get("detector", "x")


# --------------------------------------------------------------------------------- broken, and kept aside
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1\nimport no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library' (__init__.py:2)"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines (__init__.py:1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (__init__.py:2)"),
        ("def f(:", "SyntaxError: invalid syntax (__init__.py, line 1)"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_and_the_others_work(install, tmp_path, source, reason):
    install("acme-bad", source, version="0.9")
    install("acme-good", detector("good"))
    catalog = find(tmp_path)
    assert [r.name for r in catalog.registrations()] == ["good"]
    assert catalog.broken == (BrokenPlugin("acme-bad", "0.9", "acme_bad", f"import failed: {reason}"),)
    assert catalog.get("detector", "good").name == "good"
    with pytest.raises(BackdoorError) as caught:
        catalog.get("detector", "other")
    assert f"Could not be loaded: acme-bad 0.9 (import failed: {reason})" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_point_to_a_missing_module_or_attribute_is_broken(install, tmp_path):
    install("acme", "x = 1")
    found = [
        metadata.EntryPoint("a", "acme:nothing", "backdoor_core"),
        metadata.EntryPoint("b", "nomod", "backdoor_core"),
    ]
    first, second = discover(found, {}).broken
    assert "AttributeError: module 'acme' has no attribute 'nothing'" in first.reason
    assert second.reason == "import failed: ModuleNotFoundError: No module named 'nomod'"


def test_a_hook_that_raises_is_broken_and_the_plugin_s_other_hooks_count(install, tmp_path):
    source = detector("good") + (
        "@hookimpl\ndef register_models(register):\n    register(Good)\n    raise ValueError('no license')\n"
    )
    install("acme", source)
    catalog = find(tmp_path)
    assert [(r.kind, r.name) for r in catalog.registrations()] == [("detector", "good")]
    [broken] = catalog.broken
    line = source[: source.index("raise")].count("\n") + 1
    assert broken.reason == f"hook register_models failed: ValueError: no license (__init__.py:{line})"


def test_a_forgotten_decorator_is_noticed(install, tmp_path):
    install("acme", detector("x").replace("@hookimpl", ""))
    [broken] = find(tmp_path).broken
    assert "@hookimpl" in broken.reason


def test_a_hook_that_registers_nothing_is_fine(install, tmp_path):
    install("acme", detector("x").replace("    register(X)", "    pass"))
    assert find(tmp_path) == Catalog(())


# --------------------------------------------------------------------------------------------- fatal defects
def fatal(tmp_path):
    with pytest.raises(BackdoorError) as caught:
        find(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_misspelt_hook_is_an_error_with_a_suggestion(install, tmp_path):
    install("acme-x", detector("x").replace("def register_detectors", "def register_detector"))
    message = fatal(tmp_path)
    assert message.startswith("plugin 'acme_x' of distribution acme-x 1.0: unknown hook 'register_detector'")
    assert "did you mean 'register_detectors'?" in message
    assert message.endswith("to go on without it, set BACKDOOR_BLOCK_PLUGINS=acme-x")


def test_a_hook_with_another_argument_is_an_error(install, tmp_path):
    install("acme-x", detector("x").replace("(register)", "(registry)", 1))
    message = fatal(tmp_path)
    assert message.startswith("plugin 'acme_x' of distribution acme-x 1.0: a hook has one argument, `register`")
    assert "registry" in message
    assert "BACKDOOR_BLOCK_PLUGINS=acme-x" in message


def test_the_same_entry_point_key_names_both_distributions(install, tmp_path):
    install("acme-one", detector("one"), key="detectors")
    install("acme-two", detector("two"), key="detectors", version="2.0")
    message = fatal(tmp_path)
    assert message.startswith(
        "plugin 'detectors' of distribution acme-two 2.0: distribution acme-one 1.0 uses the same entry-point key"
    )
    assert "BACKDOOR_BLOCK_PLUGINS=acme-two" in message
    assert [r.name for r in find(tmp_path, {"BACKDOOR_BLOCK_PLUGINS": "acme-two"}).registrations()] == ["one"]


def test_the_same_component_name_names_both_distributions(install, tmp_path):
    install("acme-one", detector("same"))
    install("acme-two", detector("same"))
    message = fatal(tmp_path)
    assert "distribution acme-two 1.0: distribution acme-one 1.0 also provides detector 'same'" in message
    assert "BACKDOOR_BLOCK_PLUGINS=acme-two" in message
    assert len(find(tmp_path, {"BACKDOOR_BLOCK_PLUGINS": "acme-two"}).registrations()) == 1


def test_one_name_in_two_kinds_is_no_clash(install, tmp_path):
    install("acme-one", detector("good"))
    install("acme-two", trigger("Good"))
    assert [(r.kind, r.name) for r in find(tmp_path).registrations()] == [("trigger", "good"), ("detector", "good")]


def test_a_component_of_another_kind_says_what_to_inherit_from(install, tmp_path):
    install("acme", detector("x").replace("def register_detectors", "def register_models"))
    assert "X is not a model; inherit from backdoor_core.contracts.Model" in fatal(tmp_path)


def test_a_component_that_breaks_its_contract_is_an_error_at_registration(install, tmp_path):
    install("acme-x", trigger("Bad", "class Bad(Good):\n    name = 'Bad-Name'"))
    message = fatal(tmp_path)
    assert message.startswith("plugin 'acme_x' of distribution acme-x 1.0: Bad has name = 'Bad-Name'; set `name` to")
    assert message.endswith("set BACKDOOR_BLOCK_PLUGINS=acme-x")


# ------------------------------------------------------------------------------------------ names and options
def test_an_unknown_name_lists_what_there_is(install, tmp_path):
    install("acme-one", detector("activation"))
    install("acme-two", detector("spectral"))
    with pytest.raises(BackdoorError) as caught:
        find(tmp_path).get("detector", "spectrl")
    assert str(caught.value) == (
        "params.yaml asks for detector 'spectrl', which no installed plugin provides; did you mean 'spectral'? "
        "Installed: activation, spectral"
    )
    with pytest.raises(BackdoorError) as caught:
        find(tmp_path).get("trigger", "spectral")
    assert str(caught.value).endswith("which no installed plugin provides. Installed: none")


def test_options_are_completed_and_checked(install, tmp_path):
    install("acme", detector("acme"))
    catalog = find(tmp_path)
    assert catalog.resolve("detector", "acme", {}).share == 0.1
    assert catalog.resolve("detector", "acme", {"share": 0.5}).share == 0.5
    with pytest.raises(BackdoorError) as caught:
        catalog.resolve("detector", "acme", {"shar": 1, "reduce": 3})
    assert str(caught.value) == (
        "params.yaml: detector_options.acme.reduce: should be text, not 3; "
        "detector_options.acme.shar: unknown option; did you mean 'share'? Options: share, reduce, rules, limit"
    )


def test_a_trigger_s_options_stand_in_triggers(install, tmp_path):
    install("acme", trigger("Good"))
    with pytest.raises(BackdoorError, match=r"^params.yaml: triggers.good.x: unknown option. Options: none$"):
        find(tmp_path).resolve("trigger", "good", {"x": 1})


# ----------------------------------------------------------------------------------------------------- lock
def test_the_lock_entry_holds_what_decides_the_behavior(install, tmp_path):
    install("acme", detector("acme"), version="4.5")
    catalog = find(tmp_path)
    entry = lock_entry(catalog.get("detector", "acme"), catalog.resolve("detector", "acme", {"share": 0.5}))
    assert json.loads(json_text(entry)) == entry
    assert entry == {
        "name": "acme",
        "options": {"share": 0.5, "reduce": "pca", "rules": "rules.csv", "limit": "Infinity"},
        "code": code_hash("acme"),
        "distribution": "acme",
        "version": "4.5",
    }


def test_a_component_from_another_package_counts_too(install, tmp_path):
    package = install("library", detector("acme").replace("@hookimpl", ""), key="unused")
    install("shim", "from library import Acme, hookimpl\n@hookimpl\ndef register_detectors(register): register(Acme)\n")
    catalog = find(tmp_path)
    registration, options = catalog.get("detector", "acme"), catalog.resolve("detector", "acme", {})
    before = lock_entry(registration, options)
    (package / "helper.py").write_text("x = 1\n")
    assert lock_entry(registration, options)["code"] != before["code"]
