"""Usage of the `seqcells` command: unknown options and commands, and missing packages."""

import configparser
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import failure, write_config

from seqcells.lab.cli import FORMATS, KINDS, build_parser, main
from seqcells.lab.commands import COMMANDS
from seqcells.lab.export import FORMATS as EXPORTED
from seqcells.lab.extras import MODULES
from seqcells.lab.prediction.files import KINDS as READ
from seqcells.lab.training import command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["predicts"], "got 'predicts'; did you mean predict?"),
        (["frobnicate"], "got 'frobnicate'; see seqcells --help"),
        (["--hepl"], "expected an option of seqcells, got --hepl; did you mean --help?"),
        (
            ["generate", "run", "--temprature", "1"],
            "an option of seqcells generate, got --temprature; did you mean --temperature?",
        ),
        (["generate", "run", "--temp=1"], "got --temp; did you mean --temperature?"),
        (["export", "run", "--fromat", "onnx"], "got --fromat; did you mean --format?"),
        (["predict", "run", "good", "--model.cell=gru"], "got --model.cell; see seqcells predict"),
        (["compare", "a.yaml", "--seed", "3"], "got --seed; did you mean --seeds?"),
        (["compare", "a.yaml", "--deep"], "got --deep; see seqcells compare --help"),
        (["evaluate", "run", "other"], "unrecognized arguments: other"),
        (["evaluate"], "required: RUN; see seqcells evaluate --help"),
    ],
    ids=" ".join,
)
def test_invalid_usage_is_one_line_with_a_suggestion(arguments, expected, capfd):
    assert expected in failure(capfd, arguments)


def test_options_are_not_abbreviated(finished, capfd):
    assert "did you mean --split?" in failure(capfd, ["evaluate", finished, "--spl", "validation"])
    assert main(["evaluate", finished, "--split", "validation"]) == 0
    assert capfd.readouterr().out.startswith("validation accuracy ")


def test_texts_that_look_like_options_are_texts(finished, capfd):
    assert main(["predict", finished, "-5", "- good", "--", "--good"]) == 0
    shown = [line.split("  ")[2] for line in capfd.readouterr().out.splitlines()]
    assert shown == ["-5", "- good", "--good"]


def test_the_parser_agrees_with_the_commands():
    assert set(FORMATS) == set(EXPORTED)
    assert KINDS == READ
    assert build_parser()[1].keys() == COMMANDS.keys()


# Missing packages. One process imports each entry point as often as it is started.

ENTRIES = """
import runpy, sys

def start(path, *arguments):
    sys.argv = [path, *arguments]
    try:
        if path.endswith(".py"):
            runpy.run_path(path, run_name="__main__")
        elif path.count("."):
            sys.modules.pop(path, None)
            runpy.run_module(path, run_name="__main__")
        else:
            from seqcells.lab.cli import main
            sys.exit(main())
    except SystemExit as end:
        print("status", end.code, file=sys.stderr, flush=True)
    except ModuleNotFoundError as error:
        print("traceback", error, file=sys.stderr, flush=True)

def start_all():
    start("train.py", "--task=adding")
    start("seqcells", "predict", "nowhere", "text")
    start("seqcells.lab.cli", "compare", "nowhere")

sys.modules["tqdm"] = None
start_all()
start("seqcells", "predict", "--help")
start("seqcells", "predicts")
del sys.modules["tqdm"]
sys.modules["seqcells.lab.text.batches"] = None
start_all()
"""


def test_entry_points_report_a_missing_package_in_one_line():
    result = subprocess.run(
        [sys.executable, "-c", ENTRIES], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    lines = result.stderr.splitlines()
    missing = "error: expected the module tqdm, which is not installed; run: pip install '.[train]'"
    assert lines[:6] == [missing, "status 2"] * 3
    assert lines[6] == "status 0"
    assert "usage: seqcells predict" in result.stdout
    assert "did you mean predict?" in lines[7]
    assert lines[8] == "status 2"
    own = "traceback import of seqcells.lab.text.batches halted; None in sys.modules"
    assert lines[9:] == [own] * 3


def test_a_package_that_is_missed_in_training_is_one_line(
    train_main, small_corpus, in_folder, monkeypatch, capfd
):
    for name in ("torchtext", "torchtext.data"):
        monkeypatch.setitem(sys.modules, name, None)
    config = write_config(in_folder)
    error = failure(capfd, [config, "--run=run"], lambda argv: command(train_main, argv))
    assert "expected the module torchtext, which is not installed; run: pip install" in error
    assert error.endswith("[train]'\n")


def test_other_missing_modules_raise():
    def missing(_):
        raise ModuleNotFoundError("No module named 'seqcells.lab.none'", name="seqcells.lab.none")

    with pytest.raises(ModuleNotFoundError):
        command(missing, [])


def test_extras_list_the_modules_of_their_packages():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    installed = importlib.metadata.packages_distributions()
    for extra, modules in MODULES.items():
        lines = settings["options.extras_require"][extra].split("\n")
        packages = {line.partition("[")[0].partition("=")[0].strip().lower() for line in lines}
        packages -= {""}
        listed = {name.lower() for module in modules for name in installed[module]}
        assert listed == packages
