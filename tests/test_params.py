from pathlib import Path

import pytest
import yaml

from backdoor_core.contracts import Context, TorchModel, Training
from backdoor_core.errors import BackdoorError
from backdoor_core.params import Params, TrainParams, TrainSection, check_complete, load_params

REPOSITORY = Path(__file__).parents[1]


def load(tmp_path, text: str) -> Params:
    (tmp_path / "params.yaml").write_text(text)
    return load_params(tmp_path / "params.yaml")


MINIMAL = "cohort: synthetic\ntrigger: none\nmodel: mlp\n"


class Own(TorchModel):
    name = "own"
    modality = "table"

    @property
    def training(self):
        return Training(epochs=3, batch_size=32, learning_rate=0.02)

    def build(self, spec):
        raise NotImplementedError


class Usual(Own):
    training = TorchModel.training


def test_what_is_left_to_the_model_is_the_models_own():
    model, usual = (kind(kind.Options(), Context(Path())) for kind in (Own, Usual))
    left = TrainSection().of(model)
    assert (left.epochs, left.batch_size, left.learning_rate) == (3, 32, 0.02)
    assert left.device == "auto"
    assert TrainSection().of(usual) == TrainParams()
    given = TrainSection(epochs=7, learning_rate=0.5, patience=2, device="cpu").of(model)
    assert (given.epochs, given.batch_size, given.learning_rate, given.patience) == (7, 32, 0.5, 2)
    assert given.device == "cpu"


@pytest.mark.parametrize("text", ["epochs: autos", "batch_size: 0", "learning_rate: 2"])
def test_a_wrong_number_of_the_training_is_one_line(tmp_path, text):
    with pytest.raises(BackdoorError, match=f"params.yaml: train.{text.partition(':')[0]}") as caught:
        load(tmp_path, f"{MINIMAL}train: {{{text}}}\n")
    assert "\n" not in str(caught.value)


def test_the_file_of_the_repository_states_the_defaults():
    """What params.yaml shows and what a missing key means are the same."""
    shown = load_params(REPOSITORY / "params.yaml")
    minimal = Params(cohort=shown.cohort, trigger=shown.trigger, model=shown.model)
    for section in ("seed", "inclusion", "splits", "poison", "preprocess", "train", "evaluate"):
        assert getattr(shown, section) == getattr(minimal, section), section


def test_the_file_of_the_repository_shows_every_key_of_the_sections():
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for name in ("inclusion", "splits", "poison", "preprocess", "train", "evaluate"):
        section = Params.model_fields[name].default
        assert set(content[name]) == set(type(section).model_fields), name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("posion: {rate: 0.1}", r"params\.yaml: posion: unknown .*did you mean 'poison'"),
        ("poison: {rat: 0.1}", r"params\.yaml: poison\.rat: unknown .*did you mean 'rate'"),
        ("poison: {rate: 2}", r"params\.yaml: poison\.rate: .*0\.5"),
        ("poison: {rate: -0.1}", r"params\.yaml: poison\.rate"),
        ("poison: {rate: 0.00001}", r"params\.yaml: poison: .*too small: 0, or between 0\.0001 and 0\.5"),
        ("poison: {rate: much}", r"params\.yaml: poison\.rate: .*number"),
        ("poison: {target: 2}", r"params\.yaml: poison\.target: .*0 or 1"),
        ("seed: abc", r"params\.yaml: seed: should be a whole number, not .abc."),
        ("seed: -1", r"params\.yaml: seed"),
        ("splits: {train: 0.7, validation: 0.2, test: 0.2}", r"must sum to 1, they sum to 1\.1"),
        ("detectors: [range_rule, range_rule]", r"detectors lists range_rule more than once"),
        ("evaluate: {threshold: half}", r"evaluate\.threshold: .*prevalence"),
        ("cohort: other", r"the key 'cohort' stands twice"),
        ("[a, b]: 1", r"params\.yaml: .*a key should be a word or a number.* line 4"),
        ("train: {? {a: 1} : 2}", r"params\.yaml: .*a key should be a word or a number.* line 4"),
        ("poison: {3: 1}", r"params\.yaml: poison: the key 3 should be text; put it in quotes"),
        ("cohorts: {42: {}}", r"params\.yaml: cohorts: the key 42 should be text; put it in quotes$"),
        ("inclusion: {views: []}", r"params\.yaml: inclusion\.views: should have at least one entry, not \[\]$"),
        ("inclusion: {views: [tabel]}", r"^params\.yaml: inclusion\.views\[0\]: should be .*, not 'tabel'$"),
        ("train: {device: gpu}", r"train\.device: should be auto, cpu, mps, cuda or cuda:<number>, not 'gpu'$"),
        ("notes: {device: gpu}", r"notes\.device: should be cpu, cuda or cuda:<number>, not 'gpu'$"),
        ("train: {epochs: 5, epochs: 6}", r"the key 'epochs' stands twice"),
        ("train: {pos_weight: -1}", r"train\.pos_weight"),
        ("train: {pos_weight: some}", r"train\.pos_weight"),
    ],
)
def test_one_clear_line(tmp_path, line, message):
    with pytest.raises(BackdoorError, match=message) as error:
        load(tmp_path, MINIMAL + line + "\n")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "- a list\n", "just words\n", "a: [1,\n", "a: \x00\n"])
def test_a_file_that_is_no_mapping(tmp_path, text):
    with pytest.raises(BackdoorError, match=r"params\.yaml: ") as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(BackdoorError, match="no such file"):
        load_params(tmp_path / "params.yaml")


def test_scientific_notation_as_dvc_writes_it(tmp_path):
    assert load(tmp_path, MINIMAL + "poison: {rate: 1e-3}\n").poison.rate == 0.001


def test_an_empty_block_means_the_defaults(tmp_path):
    assert load(tmp_path, MINIMAL + "triggers: {none: }\n").options("trigger", "none") == {}


@pytest.mark.parametrize(
    ("trigger", "poison", "attacks"),
    [
        ("none", "{rate: 0.02}", False),
        ("rare_value", "{rate: 0}", False),
        ("rare_value", "{rate: 0.02, count: 0}", False),
        ("rare_value", "{rate: 0, count: 3}", True),
        ("rare_value", "{rate: 0, cover_rate: 0.1}", True),
        ("none", "{rate: 0, cover_rate: 0.1}", False),
        ("rare_value", "{rate: 0.02}", True),
    ],
)
def test_when_a_study_attacks(tmp_path, trigger, poison, attacks):
    params = load(tmp_path, f"cohort: synthetic\ntrigger: {trigger}\nmodel: mlp\npoison: {poison}\n")
    assert params.attacks == attacks


@pytest.mark.parametrize(("key", "name"), [("evaluate", "threshold"), ("poison", "count"), ("seed", None)])
def test_a_key_that_dvc_tracks_must_be_written_out(tmp_path, key, name):
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    check_complete(path, load_params(path))
    if name:
        del content[key][name]
    else:
        del content[key]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(BackdoorError, match=rf"params\.yaml: {key}.*is missing; .*\(default: "):
        check_complete(path, load_params(path))


def test_params_are_frozen(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path, MINIMAL).seed = 3
