"""Finding the installed plugins, and what is written down about the chosen ones.

Nothing is kept between calls: every `discover` builds its own `Catalog`. A plugin that cannot be loaded is kept
in it as a `BrokenPlugin`, since a study that uses nothing of it should run. A plugin that loads but breaks a rule
raises: it would otherwise lack a component, or shadow another one, in silence.
"""

import hashlib
import importlib
import json
import os
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from backdoor_core import hookspecs
from backdoor_core.component_check import defect
from backdoor_core.contracts import KINDS, Component, Kind
from backdoor_core.errors import BackdoorError
from backdoor_core.hookspecs import HOOKS
from backdoor_core.params import OPTION_MAPS
from backdoor_core.validation import did_you_mean, one_line

GROUP = "backdoor_core"
LOAD = "BACKDOOR_LOAD_PLUGINS"
BLOCK = "BACKDOOR_BLOCK_PLUGINS"


# ------------------------------------------------------------------------------------------------- catalog
@dataclass(frozen=True)
class Registration:
    """One component and the distribution that brought it."""

    kind: Kind
    name: str
    component: type[Component]
    distribution: str
    version: str
    entry_point: str
    """Value of the entry point, such as ``backdoor_triggers``."""


@dataclass(frozen=True)
class BrokenPlugin:
    """An installed plugin, or one hook of it, that could not be loaded."""

    distribution: str
    version: str
    entry_point: str
    reason: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.reason})"


@dataclass(frozen=True)
class Catalog:
    """What is installed. Names are unique within a kind."""

    components: tuple[Registration, ...]
    broken: tuple[BrokenPlugin, ...] = ()
    left_out: tuple[str, ...] = ()
    """Distributions that the environment variables leave out."""

    def registrations(self, kind: Kind | None = None) -> list[Registration]:
        """The components of one kind or of all, in the order of `KINDS`, then by name."""
        chosen = [r for r in self.components if kind is None or r.kind == kind]
        return sorted(chosen, key=lambda r: (list(KINDS).index(r.kind), r.name))

    def get(self, kind: Kind, name: str) -> Registration:
        """The component of that name. Raises `BackdoorError` with the names there are."""
        known = {r.name: r for r in self.registrations(kind)}
        if name in known:
            return known[name]
        hint = did_you_mean(name, known) or "."
        message = f"params.yaml asks for {kind} {name!r}, which no installed plugin provides{hint}"
        message += f" Installed: {', '.join(known) or 'none'}"
        if self.broken:
            message += f". Could not be loaded: {'; '.join(map(str, self.broken))}"
        if self.left_out:
            message += f". Left out by {LOAD} or {BLOCK}: {', '.join(self.left_out)}"
        raise BackdoorError(message)

    def resolve(self, kind: Kind, name: str, options: Mapping[str, Any]) -> BaseModel:
        """The options of a component, checked and with defaults filled in.

        Raises `BackdoorError` naming the option that is unknown, missing, of a wrong type or out of range.
        """
        model = self.get(kind, name).component.Options
        try:
            return model.model_validate(options)
        except ValidationError as error:
            where = f"params.yaml: {OPTION_MAPS.get(kind, kind)}.{name}"
            raise BackdoorError(one_line(error, where, model)) from None


# ----------------------------------------------------------------------------------------------- discovery
@dataclass(frozen=True)
class _Plugin:
    entry_point: metadata.EntryPoint
    distribution: str
    version: str

    def broken(self, reason: str) -> BrokenPlugin:
        return BrokenPlugin(self.distribution, self.version, self.entry_point.value, reason)

    def error(self, what: str) -> BackdoorError:
        """For a fatal defect: what is wrong, where, and how to go on without the plugin."""
        who = f"plugin {self.entry_point.name!r} of distribution {self.distribution} {self.version}"
        return BackdoorError(f"{who}: {what}; to go on without it, set {BLOCK}={self.distribution}")


def discover(
    entry_points: Iterable[metadata.EntryPoint] | None = None, environ: Mapping[str, str] | None = None
) -> Catalog:
    """Load the plugins among the installed distributions, or the given entry points.

    The variables BACKDOOR_LOAD_PLUGINS (only these; empty = none) and BACKDOOR_BLOCK_PLUGINS (all but these) of
    `environ`, by default the process's, hold names of distributions, separated by commas.

    Raises `BackdoorError` where a variable names a distribution that is no plugin, two plugins use one entry-point
    key or one component name, a hook is misspelt or has other arguments, or a component breaks its contract.
    """
    found = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
    plugins = sorted(map(_plugin, found), key=lambda p: (_normalized(p.distribution), p.entry_point.name))
    chosen = _choose(plugins, os.environ if environ is None else environ)
    _check_keys(chosen)
    components: dict[tuple[Kind, str], Registration] = {}
    broken: list[BrokenPlugin] = []
    for plugin in chosen:
        registered, failures = _load(plugin)
        broken += failures
        for kind, component in registered:
            _add(components, plugin, kind, component)
    left_out = sorted({p.distribution for p in plugins} - {p.distribution for p in chosen})
    return Catalog(tuple(components.values()), tuple(broken), tuple(left_out))


def _plugin(entry_point: metadata.EntryPoint) -> _Plugin:
    if entry_point.dist is None:  # made by hand, not found among the installed distributions
        return _Plugin(entry_point, entry_point.module.partition(".")[0], "unknown")
    return _Plugin(entry_point, entry_point.dist.name, entry_point.dist.version)


def _normalized(distribution: str) -> str:
    """The form in which two spellings of a distribution's name are the same (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _choose(plugins: Sequence[_Plugin], environ: Mapping[str, str]) -> list[_Plugin]:
    installed = {_normalized(p.distribution): p.distribution for p in plugins}

    def named(variable: str) -> set[str]:
        words = [word.strip() for word in environ.get(variable, "").split(",") if word.strip()]
        for word in words:
            if _normalized(word) not in installed:
                hint = did_you_mean(_normalized(word), installed) or "."
                listed = ", ".join(sorted(set(installed.values()))) or "none"
                raise BackdoorError(
                    f"{variable} names {word!r}, which is no installed plugin{hint} Installed: {listed}"
                )
        return {_normalized(word) for word in words}

    loaded = named(LOAD) if LOAD in environ else set(installed)
    return [p for p in plugins if _normalized(p.distribution) in loaded - named(BLOCK)]


def _check_keys(plugins: Sequence[_Plugin]) -> None:
    """pluggy would silently skip the second plugin with the same entry-point key."""
    first: dict[str, _Plugin] = {}
    for plugin in plugins:
        other = first.setdefault(plugin.entry_point.name, plugin)
        if other is not plugin:
            taken = f"distribution {other.distribution} {other.version} uses the same entry-point key"
            raise plugin.error(f"{taken}; rename it in one of the two")


def _load(plugin: _Plugin) -> tuple[list[tuple[Kind, Any]], list[BrokenPlugin]]:
    """What a plugin registers, and which parts of it failed: its import, or some of its hooks."""
    # A plugin is foreign code: whatever it raises, even an exit, must not take the other plugins with it.
    try:
        module = plugin.entry_point.load()
    except (Exception, SystemExit) as error:
        return [], [plugin.broken(f"import failed: {_told(error)}")]
    # One manager per plugin, so that each hook is called for this plugin alone and a failure has one culprit.
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    _register(manager, plugin, module)
    components: list[tuple[Kind, Any]] = []
    broken = []
    for hook, kind in HOOKS.items():
        registered: list[Any] = []
        try:
            getattr(manager.hook, hook)(register=registered.append)
        except (Exception, SystemExit) as error:
            broken.append(plugin.broken(f"hook {hook} failed: {_told(error)}"))
        else:
            components += [(kind, component) for component in registered]
    if not manager.get_hookcallers(module):
        broken.append(plugin.broken("no hook found; mark a function such as register_triggers with @hookimpl"))
    return components, broken


def _register(manager: pluggy.PluginManager, plugin: _Plugin, module: Any) -> None:
    """Register a plugin's hooks, refusing those that pluggy would ignore."""
    try:
        manager.register(module, name=plugin.entry_point.name)
    except pluggy.PluginValidationError as error:
        raise plugin.error(f"a hook has one argument, `register`: {' '.join(str(error).split())}") from None
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        unknown = sorted({caller.name for caller in manager.get_hookcallers(module) or []} - set(HOOKS))
        known = ", ".join(HOOKS)
        raise plugin.error(f"unknown hook {unknown[0]!r}{did_you_mean(unknown[0], HOOKS)} Hooks: {known}") from None


def _add(components: dict[tuple[Kind, str], Registration], plugin: _Plugin, kind: Kind, component: Any) -> None:
    wrong = defect(kind, component)
    if wrong:
        raise plugin.error(wrong)
    registration = Registration(
        kind, component.name, component, plugin.distribution, plugin.version, plugin.entry_point.value
    )
    other = components.setdefault((kind, component.name), registration)
    if other is not registration:
        taken = f"distribution {other.distribution} {other.version} also provides {kind} {component.name!r}"
        raise plugin.error(f"{taken}; rename it in one of the two")


def _told(error: BaseException) -> str:
    """Type, message and place of an exception, in one line."""
    machinery = (__file__, "<frozen", str(Path(importlib.__file__).parent), str(Path(pluggy.__file__).parent))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(machinery)]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


# ---------------------------------------------------------------------------------------------------- lock
def lock_entry(registration: Registration, options: BaseModel) -> dict[str, Any]:
    """What decides the behavior of a component, for plugins.lock.json. The same on every machine."""
    entry_module = metadata.EntryPoint("", registration.entry_point, GROUP).module
    return {
        "name": registration.name,
        # JSON has no infinity: as text it stays distinct from null.
        "options": json.loads(to_json(options.model_dump(), inf_nan_mode="strings")),
        "code": code_hash(entry_module, registration.component.__module__),
        "distribution": registration.distribution,
        "version": registration.version,
    }


def code_hash(*modules: str) -> str:
    """SHA-256 of the source of the top-level packages that hold the given modules, wherever they are installed.

    Every file of a package counts (a component may read data files), with its name, except compiled bytecode.
    A helper in a package of its own does not count: it belongs to another distribution.
    """
    digest = hashlib.sha256()
    for root in sorted({_source_of(module) for module in modules}, key=lambda path: path.name):
        for file in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
            name = file.relative_to(root.parent)
            if "__pycache__" not in name.parts and name.suffix != ".pyc":
                digest.update(name.as_posix().encode() + b"\0")
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _source_of(module: str) -> Path:
    """Folder of the top-level package of a module, or the file of a module that is in none."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        # A namespace package has no file and is shared between distributions: its first real child counts.
        file = getattr(importlib.import_module(".".join(parts[:depth])), "__file__", None)
        if file is not None and Path(file).is_file():
            path = Path(file)
            return path.parent if path.stem == "__init__" else path
    raise BackdoorError(f"plugin module {module}: its source is not on disk as files; install it unzipped")
