"""A study: params, catalog and paths, loaded once by a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backdoor_core.contracts import (
    KINDS,
    ArrayModel,
    Audit,
    CohortSource,
    Component,
    Context,
    Corpus,
    Detector,
    Explainer,
    Kind,
    Model,
    Repair,
    Signal,
    TorchModel,
    Trigger,
)
from backdoor_core.errors import BackdoorError
from backdoor_core.files import described
from backdoor_core.params import OPTION_MAPS, Params, load_params
from backdoor_core.plugins import Catalog, discover, lock_entry
from backdoor_core.validation import did_you_mean


@dataclass(frozen=True)
class Paths:
    """Where everything of a study lies, below its root folder."""

    root: Path

    @property
    def params(self) -> Path:
        """params.yaml."""
        return self.root / "params.yaml"

    @property
    def lock(self) -> Path:
        """The plugin lock."""
        return self.root / "plugins.lock.json"

    @property
    def converted(self) -> Path:
        """Raw tables as the cohort source converted them, where it was asked to."""
        return self.root / "data" / "converted"

    @property
    def cohort(self) -> Path:
        """Folder of the cohort's views and card."""
        return self.root / "data" / "cohort"

    @property
    def splits(self) -> Path:
        """Which stays belong to which part."""
        return self.root / "data" / "splits.json"

    @property
    def run(self) -> Path:
        """Folder of everything that the study finds out."""
        return self.root / "run"

    @property
    def baseline(self) -> Path:
        """The clean twin."""
        return self.run / "baseline"

    @property
    def notes(self) -> Path:
        """The study of a language model of notes."""
        return self.run / "notes"

    @property
    def nulls(self) -> Path:
        """The clean retrains, one folder each."""
        return self.run / "nulls"

    @property
    def null_scores(self) -> Path:
        """What the detectors say of the clean retrains."""
        return self.run / "null_scores.parquet"


@dataclass(frozen=True)
class Study:
    """What a stage needs to know of the study it belongs to."""

    params: Params
    catalog: Catalog
    paths: Paths

    def component(self, kind: Kind, name: str) -> Component:
        """The chosen component, with its options from params.yaml checked."""
        return self.make(kind, name, self.params.options(kind, name))

    def make(self, kind: Kind, name: str, given: Mapping[str, Any]) -> Component:
        """An installed component with the given options, checked."""
        registration = self.catalog.get(kind, name)
        options = self.catalog.resolve(kind, name, given)
        return registration.component(options, Context(self.paths.root, self.paths.converted, self.make))

    def cohort_source(self) -> CohortSource:
        """The source of the stays."""
        return cast(CohortSource, self.component("cohort", self.params.cohort))

    def trigger(self) -> Trigger:
        """The trigger."""
        return cast(Trigger, self.component("trigger", self.params.trigger))

    def model(self) -> Model:
        """The model that is attacked."""
        return cast(Model, self.component("model", self.params.model))

    def detectors(self) -> list[Detector]:
        """The chosen detectors, in the order of params.yaml."""
        return [cast(Detector, self.component("detector", name)) for name in self.params.detectors]

    def repairs(self) -> list[Repair]:
        """The chosen repairs, in the order of params.yaml."""
        return [cast(Repair, self.component("repair", name)) for name in self.params.repairs]

    def explainers(self) -> list[Explainer]:
        """The chosen explainers, in the order of params.yaml."""
        return [cast(Explainer, self.component("explainer", name)) for name in self.params.explainers]

    def corpus(self) -> Corpus:
        """The source of the notes."""
        return cast(Corpus, self.component("corpus", self.params.notes.corpus))

    def note_audits(self) -> list[Audit]:
        """The audits of the language model, in the order of params.yaml."""
        chosen, options = self.params.notes.audits, self.params.notes.audit_options
        return [cast(Audit, self.make("audit", name, options.get(name) or {})) for name in chosen]

    def audits(self) -> list[Audit]:
        """The chosen audits, in the order of params.yaml."""
        return [cast(Audit, self.component("audit", name)) for name in self.params.audits]


def load_study(root: Path) -> Study:
    """The study in the folder `root`. Raises `BackdoorError` where params.yaml or the plugins are not in order."""
    paths = Paths(root=root)
    return Study(params=load_params(paths.params), catalog=discover(), paths=paths)


def check_compatible(study: Study) -> None:
    """Refuse a study whose components cannot work together, before any work is done.

    Raises `BackdoorError`, for example where a detector needs embeddings that the model has not.
    """
    _check_options(study)
    source, trigger, model = study.cohort_source(), study.trigger(), study.model()
    if model.modality not in source.views:
        raise BackdoorError(
            f"params.yaml: model {model.name} reads the {model.modality} view, "
            f"which cohort {source.name} does not have; it has {', '.join(sorted(source.views))}"
        )
    if model.modality not in study.params.inclusion.views:
        raise BackdoorError(
            f"params.yaml: model {model.name} reads the {model.modality} view, which inclusion.views does not list; "
            f"add {model.modality} to it"
        )
    if model.modality not in trigger.modalities:
        raise BackdoorError(
            f"params.yaml: trigger {trigger.name} works on {', '.join(sorted(trigger.modalities))}, "
            f"model {model.name} reads the {model.modality} view"
        )
    if study.params.preprocess.missing == "sentinel" and isinstance(model, ArrayModel):
        raise BackdoorError(
            f"params.yaml: preprocess.missing: sentinel is in scaled units, and model {model.name} reads clinical "
            "ones; choose indicator or median"
        )
    if model.modality == "events" and (outliers := study.params.preprocess.outliers) in ("clip", "null"):
        # `fit_event_preprocessor` refuses it too, but only once there is a cohort, and with torch.
        raise BackdoorError(
            f"params.yaml: preprocess.outliers is {outliers}, but codes of events have no plausible range; "
            f"set winsorize or keep for model {model.name}"
        )
    for detector in study.detectors():
        _check_detector(detector, model, study.params)
    for repair in study.repairs():
        if not isinstance(model, TorchModel):
            raise BackdoorError(f"params.yaml: repair {repair.name} mends torch models; {model.name} is none")
        if model.modality not in repair.modalities:
            raise BackdoorError(
                f"params.yaml: repair {repair.name} works on {' and '.join(sorted(repair.modalities))}; model "
                f"{model.name} reads the {model.modality} view, so leave it out of repairs"
            )
    for explainer in study.explainers():
        check_explainer(explainer, model)
    for audit in study.note_audits():
        check_note_audit(audit)
    for audit in study.audits():
        check_audit(audit, model, study.params)


def idle_options(study: Study) -> list[str]:
    """Where params.yaml has options of components that are not installed, with a near name where there is one."""
    return [f"params.yaml: {key}.{name} is of no installed {kind}{hint}" for kind, key, name, hint in _unknown(study)]


def _check_options(study: Study) -> None:
    """Refuse options under a name that is most likely a slip: they would be left out in silence.

    A name that is near no installed one may be of a plugin that is not installed here, and that nothing else asks for.
    """
    catalog = study.catalog
    for kind, key, name, hint in _unknown(study):
        if hint and not (catalog.broken or catalog.left_out):
            known = ", ".join(r.name for r in catalog.registrations(kind))
            raise BackdoorError(f"params.yaml: {key}.{name} is of no installed {kind}{hint} Installed: {known}")


def _unknown(study: Study) -> list[tuple[Kind, str, str, str]]:
    """Kind, key of params.yaml, name and hint of every block of options that no installed component has."""
    of: list[tuple[Kind, str, Mapping[str, Any]]]
    of = [(kind, key, getattr(study.params, key)) for kind, key in OPTION_MAPS.items()]
    of.append(("audit", "notes.audit_options", study.params.notes.audit_options))
    known = {kind: [r.name for r in study.catalog.registrations(kind)] for kind in OPTION_MAPS}
    return [
        (kind, key, name, did_you_mean(name, known[kind]))
        for kind, key, blocks in of
        for name in blocks
        if name not in known[kind]
    ]


def _check_detector(detector: Detector, model: Model, params: Params) -> None:
    needs = set(detector.requires)
    lacking = sorted((needs & {"embedding", "gradient"}) - model.capabilities)
    if lacking:
        raise BackdoorError(
            f"params.yaml: detector {detector.name} needs {', '.join(lacking)}; model {model.name} has "
            f"{', '.join(sorted(model.capabilities)) or 'none of it'}"
        )
    if model.modality not in detector.modalities:
        raise BackdoorError(
            f"params.yaml: detector {detector.name} judges {' and '.join(sorted(detector.modalities))}; model "
            f"{model.name} reads the {model.modality} view, so leave it out of detectors"
        )
    if model.modality == "events" and (columns := sorted(needs & {"inputs", "gradient"})):
        raise BackdoorError(
            f"params.yaml: detector {detector.name} needs {', '.join(columns)} by column, and the events that model "
            f"{model.name} reads have none; choose another space in its options, or leave it out of detectors"
        )
    if "checkpoints" in needs and not (isinstance(model, TorchModel) and params.train.checkpoints):
        why = "set train.checkpoints to true" if isinstance(model, TorchModel) else f"model {model.name} has no epochs"
        raise BackdoorError(f"params.yaml: detector {detector.name} needs checkpoints of the training; {why}")
    if "trusted" in needs and not params.detection.trusted:
        raise BackdoorError(
            f"params.yaml: detector {detector.name} needs stays known to be clean; set detection.trusted to their "
            "number, such as 200"
        )


def check_explainer(explainer: Explainer, model: Model) -> None:
    """Refuse an explainer that cannot explain the model. Raises `BackdoorError`."""
    if model.modality not in explainer.modalities:
        raise BackdoorError(
            f"params.yaml: explainer {explainer.name} explains models of {' and '.join(sorted(explainer.modalities))}; "
            f"model {model.name} reads the {model.modality} view, so leave it out of explainers"
        )
    if lacking := sorted(explainer.requires - model.capabilities):
        raise BackdoorError(
            f"params.yaml: explainer {explainer.name} needs {', '.join(lacking)}; model {model.name} has "
            f"{', '.join(sorted(model.capabilities)) or 'none of it'}"
        )


OF_NOTES: frozenset[Signal] = frozenset(
    {"loss", "references", "population", "token_logprobs", "texts", "neighbors", "untrained", "truth"}
)
OF_STAYS: frozenset[Signal] = frozenset({"loss", "logits", "references", "population", "inputs", "untrained", "truth"})
"""Signals that are measured of models of stays; the others are of language models."""


def check_audit(audit: Audit, model: Model, params: Params) -> None:
    """Refuse an audit whose signals are not measured of the model. Raises `BackdoorError`."""
    if lacking := sorted(audit.requires - OF_STAYS):
        raise BackdoorError(
            f"params.yaml: audit {audit.name} needs {', '.join(lacking)}, which models of stays do not have; leave it "
            "out of audits, or choose another source in its options"
        )
    if _wants_references(audit) and not params.audit.references:
        raise BackdoorError(
            f"params.yaml: audit {audit.name} needs reference models; set audit.references to an even number, such as 4"
        )
    if "untrained" in audit.requires and not isinstance(model, TorchModel):
        raise BackdoorError(
            f"params.yaml: audit {audit.name} needs an untrained model, which {model.name} does not have; leave it out"
        )


def references_needed(study: Study) -> int:
    """How many reference models the chosen audits want."""
    return study.params.audit.references if any(map(_wants_references, study.audits())) else 0


def note_references_needed(study: Study) -> int:
    """How many reference language models the chosen audits want of every recipe."""
    return study.params.notes.references if any(map(_wants_references, study.note_audits())) else 0


def _wants_references(audit: Audit) -> bool:
    return bool(audit.requires & {"references", "population"})


def check_note_audit(audit: Audit) -> None:
    """Refuse an audit whose signals are not measured of a language model. Raises `BackdoorError`."""
    if lacking := sorted(audit.requires - OF_NOTES):
        raise BackdoorError(
            f"params.yaml: notes.audits: {audit.name} needs {', '.join(lacking)}, which is not measured of a language "
            "model of notes; leave it out, or choose another source in notes.audit_options"
        )


def _kind_of(component: Component) -> Kind:
    return next(kind for kind, base in KINDS.items() if isinstance(component, base))


def plugin_lock(study: Study) -> dict[str, Any]:
    """Every chosen component with its resolved options, code hash and version, and the raw files it reads."""

    def entry(kind: Kind, name: str) -> Mapping[str, Any]:
        return locked(kind, study.component(kind, name))

    def locked(kind: Kind, component: Component) -> Mapping[str, Any]:
        content = lock_entry(study.catalog.get(kind, component.name), component.options)
        parts = [locked(_kind_of(part), part) for part in component.parts()]
        return {**content, "parts": parts} if parts else content

    source = study.cohort_source()
    read = described(source.inputs())
    cohort, conversion = entry("cohort", study.params.cohort), source.conversion()
    # Where nothing is converted, the code of the source is no reason to run the stage `convert` again.
    by = cohort["code"] if conversion is not None else None
    return {
        "raw": {"source": source.name, **read, "conversion": conversion, "code": by},
        "cohort": {**cohort, **read},
        "trigger": entry("trigger", study.params.trigger),
        # A trigger edits the view that the model reads: a model of another view needs the poison anew.
        "view": study.model().modality,
        "model": entry("model", study.params.model),
        "detectors": {name: entry("detector", name) for name in sorted(study.params.detectors)},
        "repairs": {name: entry("repair", name) for name in sorted(study.params.repairs)},
        "explainers": {name: entry("explainer", name) for name in sorted(study.params.explainers)},
        "references": references_needed(study),
        "audits": {name: entry("audit", name) for name in sorted(study.params.audits)},
        "notes": {
            "corpus": {**entry("corpus", study.params.notes.corpus), **described(study.corpus().inputs())},
            "references": note_references_needed(study),
            "audits": {audit.name: locked("audit", audit) for audit in study.note_audits()},
        },
    }
