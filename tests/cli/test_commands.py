"""What holds for every command: help, version, usage, spellings, errors in one line."""

import dataclasses
import re
import signal
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import pytest

from nnunet_cascade.cli import cascade_predict, plan
from nnunet_cascade.cli.commands import COMMANDS, main, module_of
from nnunet_cascade.cli.settings_values import settings_values
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.postprocessing.tuning import SearchSpace
from nnunet_cascade.settings.training import TrainingSettings

CHECKOUT = Path(__file__).parents[2]
WITHOUT_NEEDS = ("nnc-demo", "nnc-info")
TWO_SPELLINGS = {("-h", "--help"), ("--continue_prediction", "--c")}  # nnU-Net's own
TAKES_WHAT_THE_COMMAND_WRITES = "-o"  # a folder or a file, but plans have a name and datasets a number


def actions_of(command):
    return [action for action in module_of(command).build_parser()._actions if action.dest != "help"]


class TestAllCommands:
    def test_the_table_names_what_is_installed_and_every_module(self):
        scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
        assert {name: f"{module_of(name).__name__}:main" for name in COMMANDS} == scripts
        with_parser = [
            path for path in Path(plan.__file__).parent.glob("*.py") if "def build_parser" in path.read_text()
        ]
        assert len(with_parser) == len(COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_has_groups_an_example_and_says_that_it_is_no_medical_device(self, command, capsys):
        with pytest.raises(SystemExit) as stop:
            module_of(command).main(["-h"])
        shown = capsys.readouterr().out
        assert stop.value.code == 0
        assert "not a medical device." in " ".join(shown.split())
        assert re.search(rf"\nexamples?:\n  {command} ", shown)
        assert "\ninput and output:\n" in shown

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_option_is_explained_and_in_a_titled_group(self, command):
        parser = module_of(command).build_parser()
        *_, general = (group for group in parser._action_groups if group.title == "options")
        assert [action.dest for action in general._group_actions] == ["help", "version"]
        assert [action.dest for action in actions_of(command) if not action.help] == []

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_examples_are_commands_that_parse(self, command):
        parser = module_of(command).build_parser()
        for line in parser.epilog.splitlines()[1:]:
            name, *words = re.findall(r"'[^']*'|\S+", line)
            assert name == command
            parser.parse_args([word.strip("'") for word in words])

    @pytest.mark.parametrize("command", [command for command in COMMANDS if command not in WITHOUT_NEEDS])
    def test_missing_arguments_are_wrong_usage(self, command, capsys):
        with pytest.raises(SystemExit) as stop:
            module_of(command).main([])
        assert stop.value.code == 2
        assert "required" in capsys.readouterr().err


class TestSpellings:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_an_option_has_one_spelling_with_underscores(self, command):
        for action in actions_of(command):
            flags = tuple(action.option_strings)
            assert len(flags) <= 1 or flags in TWO_SPELLINGS
            assert [flag for flag in flags if "-" in flag.lstrip("-")] == []

    def test_a_flag_takes_the_same_everywhere(self):
        found = defaultdict(set)
        for command in COMMANDS:
            for action in actions_of(command):
                for flag in set(action.option_strings) - {TAKES_WHAT_THE_COMMAND_WRITES}:
                    type_name = getattr(action.type, "__name__", None)
                    found[flag].add((action.dest, type_name, action.nargs, type(action).__name__))
        assert {flag: kinds for flag, kinds in found.items() if len(kinds) > 1} == {}

    def test_a_flag_cannot_be_shortened(self, capsys):
        with pytest.raises(SystemExit):
            plan.main(["-d", "1", "--spacing", "1", "1", "1"])
        assert "unrecognized arguments: --spacing" in capsys.readouterr().err


class TestRunByPython:
    @pytest.mark.parametrize("module", ["nnunet_cascade.cli.plan", "nnunet_cascade plan"])
    def test_the_module_of_a_command_and_the_package_run_it(self, module):
        arguments = [sys.executable, "-m", *module.split(), "--version"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == f"nnc-plan {version('nnunet-cascade')}\n"

    @pytest.mark.parametrize("command", COMMANDS)
    def test_all_modules_run_their_command_alike(self, command):
        code = Path(module_of(command).__file__).read_text()
        assert code.endswith("main = new_command(build_parser, _body, __name__)\n")

    def test_the_package_without_a_command_lists_all_and_is_wrong_usage(self, capsys):
        assert main([]) == 2
        shown = capsys.readouterr().out
        assert [command for command in COMMANDS if f"{command} " not in shown] == []
        assert main(["-h"]) == 0
        assert capsys.readouterr().out == shown

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_package_runs_a_command_by_its_name(self, command, capsys):
        for name in (command, command.removeprefix("nnc-")):
            with pytest.raises(SystemExit):
                main([name, "--version"])
            assert capsys.readouterr().out == f"{command} {version('nnunet-cascade')}\n"

    def test_the_end_of_a_name_is_enough_where_it_names_one_command(self, capsys):
        with pytest.raises(SystemExit):
            main(["predict", "--version"])
        assert capsys.readouterr().out.startswith("nnc-cascade-predict ")

    @pytest.mark.parametrize(
        ("name", "expected"), [("bundle", "one of nnc-make-bundle, nnc-export"), ("fly", "'fly' names 0 commands")]
    )
    def test_what_names_no_single_command_is_wrong_usage(self, name, expected, capsys):
        assert main([name]) == 2
        assert expected in capsys.readouterr().err

    def test_parsers_are_built_without_heavy_libraries(self):
        script = (
            "import sys; from nnunet_cascade.cli.commands import usage; usage(); "
            "heavy = {'torch', 'nnunetv2', 'monai', 'scipy', 'SimpleITK', 'jinja2', 'matplotlib'}; "
            "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0


class TestErrors:
    def test_what_is_no_bundle_is_one_line(self, tmp_path, capsys):
        code = cascade_predict.main(["-i", str(tmp_path), "-o", str(tmp_path / "o"), "-m", str(tmp_path)])
        error = capsys.readouterr().err
        assert code == 1
        assert error.count("\n") == 1
        assert "has no cascade.json; expected a bundle" in error

    def test_an_unset_variable_is_one_line(self, monkeypatch, capsys):
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            monkeypatch.delenv(name, raising=False)
        assert plan.main(["-d", "501"]) == 1
        assert "nnUNet_preprocessed is not set; expected a folder; export" in capsys.readouterr().err

    @pytest.mark.parametrize("number", ["some", "²", "-1", "1.5"])
    def test_the_number_of_candidates_is_whole_or_all(self, number, capsys):
        with pytest.raises(SystemExit) as stop:
            cascade_predict.main(["-i", "i", "-o", "o", "-m", "m", "--top_k", number])
        assert stop.value.code == 2
        assert "--top_k: " in capsys.readouterr().err


class TestSettingsValues:
    def test_values_take_the_type_of_their_annotation(self):
        pairs = ["epochs=3", "recipe=adamw", "initial_learning_rate=1e-3", "weight_decay=none", "mirroring=False"]
        expected = {"epochs": 3, "recipe": "adamw", "initial_learning_rate": 1e-3, "weight_decay": None}
        assert settings_values(TrainingSettings, pairs) == {**expected, "mirroring": False}
        assert settings_values(TrainingSettings, ["mirroring=true"]) == {"mirroring": True}
        assert settings_values(AnatomySettings, ["top_k=2", "min_volume_mm3=3"]) == {"top_k": 2, "min_volume_mm3": 3.0}
        assert settings_values(AnatomySettings, ["top_k=all"]) == {"top_k": "all"}
        assert settings_values(SearchSpace, ["min_volume_mm3=0,50"]) == {"min_volume_mm3": (0.0, 50.0)}

    @pytest.mark.parametrize("kind", [TrainingSettings, AnatomySettings, SearchSpace])
    def test_every_setting_can_be_written_on_the_command_line(self, kind):
        pairs = [
            f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else str(value).lower()}"
            for name, value in dataclasses.asdict(kind()).items()
        ]
        assert kind(**settings_values(kind, pairs)) == kind()

    @pytest.mark.parametrize(
        "pair", ["epochs", "epoch=3", "epochs=many", "mirroring=perhaps", "weight_decay=much", "epochs=none"]
    )
    def test_a_pair_that_is_not_a_setting_is_refused(self, pair):
        with pytest.raises(SettingsError, match="did you mean epochs" if pair == "epoch=3" else pair.partition("=")[0]):
            settings_values(TrainingSettings, [pair])


def test_a_forked_process_of_a_command_that_resumes_ends_by_termination():
    """nnU-Net ends the processes of its pools by SIGTERM; one that swallows an exception would hang it."""
    program = """
import os, signal
from nnunet_cascade.cli.common import CommandParser, run_command

class Swallowing:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)  # an exception raised here is printed and forgotten

def body(args):
    child = os.fork()
    if child == 0:
        swallowing = Swallowing()
        del swallowing
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print(code)
    return 0

parser = CommandParser("nnc-test", "Tests.", "nnc-test")
parser.options("run").resume("--c", meaning="resume")
raise SystemExit(run_command(parser, body, []))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) in {-signal.SIGTERM, 128 + signal.SIGTERM}
