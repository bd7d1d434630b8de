"""The command line: errors meant for the user are one line and exit status 1."""

import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from backdoor_core import cli

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def told(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["backdoor", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def root(tmp_path):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    return tmp_path


def test_an_os_error_is_one_line_that_names_the_file(told, root):
    (root / "params.yaml").unlink()
    (root / "params.yaml").mkdir()
    assert told("plugins", "--lock", "--root", root) == (1, f"error: {root / 'params.yaml'}: Is a directory\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "run/dose.json"), "run/dose.json: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("Can't load\nthe model"), "Can't load the model"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_os_error_without_a_file_is_one_line_too(told, monkeypatch, error, line):
    def broken(**_):
        raise error

    monkeypatch.setattr(cli, "cli", broken)
    assert told() == (1, f"error: {line}\n")


def test_dose_finds_out_that_it_cannot_write_before_it_works(told, root, monkeypatch):
    from backdoor_core.stages import dose

    monkeypatch.setattr(dose, "run", lambda *_: pytest.fail("it worked before it knew that it cannot write"))
    (root / "run").write_text("a file in place of the folder")
    assert told("dose", "--root", root) == (1, f"error: {root / 'run' / 'dose.json'}: Not a directory\n")
    (root / "run").unlink()
    (root / "run" / "dose.json").mkdir(parents=True)
    assert told("dose", "--root", root) == (1, f"error: {root / 'run' / 'dose.json'}: Is a directory\n")


def test_dose_that_can_write_leaves_nothing_behind_before_it_works(root, monkeypatch):
    from backdoor_core.stages import dose

    called = []
    monkeypatch.setattr(dose, "run", lambda *given: called.append(given))
    assert CliRunner().invoke(cli.cli, ["dose", "--root", str(root)]).exit_code == 0
    assert called
    assert not (root / "run").exists()


@pytest.mark.parametrize("lift", ["-1", "0", "2"])
def test_a_lift_that_cannot_be_reached_is_refused(root, lift):
    done = CliRunner().invoke(cli.cli, ["dose", "--root", str(root), "--lift", lift])
    assert done.exit_code == 2
    assert "is not in the range 0<x<=1" in done.output


def test_options_of_what_is_not_installed_are_told(root):
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("detector_options:", "detector_options:\n  of_another_machine: {}"))
    done = CliRunner().invoke(cli.cli, ["plugins", "--lock", "--root", str(root)])
    assert done.exit_code == 0
    assert "detector_options.of_another_machine is of no installed detector" in " ".join(done.output.split())
