"""The `seqcells` command: evaluate, predict, generate, export, compare and report runs."""

# Imports light modules only: help and errors of usage need no package of the extras.
# seqcells/lab/commands.py runs the commands.

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from seqcells.lab.extras import packages_required
from seqcells.lab.failure import print_failure
from seqcells.lab.suggestion import check_name, nearest

FORMATS = ("safetensors", "torch-export", "onnx", "c")  # of `export`
KINDS = ("txt", "csv", "jsonl")  # files of `predict`
NARROW = ("int8", "bfloat16")  # dtypes of `--quantize`


class _Parser(argparse.ArgumentParser):
    """Raises errors instead of printing usage, so that every error is one line."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")

    @property
    def options(self) -> list[str]:
        return list(self._option_string_actions)


def build_parser() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of the command line, and that of each command."""
    parser = _Parser(prog="seqcells", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    part = commands.add_parser("evaluate", help="evaluate a run's best model")
    part.add_argument("run", metavar="RUN")
    part.add_argument("--split", choices=("test", "validation"), default="test")
    part.add_argument("--data.path", dest="path", metavar="PATH", help="path of the IMDB data set")
    _add_quantize(part)

    part = commands.add_parser("predict", help="classify or transform texts")
    part.add_argument("run", metavar="RUN")
    part.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT",
        help="default: one text per line from stdin; after -- if it starts with a dash",
    )
    part.add_argument("--file", metavar="FILE", help=".txt, .csv or .jsonl; - for standard input")
    part.add_argument("--format", choices=KINDS, help="file format (default: by suffix)")
    part.add_argument("--column", default="text", metavar="NAME", help="column or key of the texts")
    part.add_argument("--output", metavar="FILE", help="default: standard output")
    part.add_argument("--explain", nargs="*", metavar="TEXT", help="print the effect of each word")
    _add_quantize(part)

    part = commands.add_parser("generate", help="sample text from a language model")
    part.add_argument("run", metavar="RUN")
    part.add_argument("beginning", nargs="*", metavar="WORD", help="prompt")
    part.add_argument("--length", type=int, default=200, help="maximum number of tokens")
    part.add_argument("--temperature", type=float, default=0.8, help="0: greedy decoding")
    part.add_argument("--top-k", type=int, metavar="K", help="sample from the K most likely tokens")
    part.add_argument("--seed", type=int, default=0)

    part = commands.add_parser("export", help="export a run's best model to another format")
    part.add_argument("run", metavar="RUN")
    part.add_argument("--format", choices=FORMATS, required=True)
    part.add_argument(
        "--output",
        metavar="PATH",
        help="default: model.SUFFIX in the run folder; for c the folder model there, whose name "
        "is the prefix of the files",
    )
    part.add_argument(
        "--stateful",
        action="store_true",
        help="ONNX: read texts in chunks, with the state as input",
    )
    part.add_argument(
        "--weights",
        choices=("file", "embedded"),
        help="C: place of the weights (default: embedded in the source up to 2 MiB, else a file)",
    )

    part = commands.add_parser(
        "compare",
        help="train configurations and print a table of results",
        epilog="vary any setting with a list of values: --model.cell rnn,gru,lstm",
    )
    part.add_argument("items", nargs="+", metavar="CONFIG|RUN")
    part.add_argument("--seeds", type=int, default=1, help="number of seeds per configuration")
    part.add_argument(
        "--folder", default="runs/compare", help="folder of the runs; resumes unfinished ones"
    )
    part.add_argument("--data.path", dest="path", metavar="PATH", help="path of the IMDB data set")

    part = commands.add_parser(
        "report", help="write an HTML report with metrics, charts and examples"
    )
    part.add_argument("runs", nargs="+", metavar="RUN")
    part.add_argument(
        "--output",
        metavar="FILE",
        help="default: report.html in the folder of the run; "
        "runs/report-NAMES.html, with their names, for several runs",
    )
    part.add_argument("--split", choices=("test", "validation"), default="test")
    part.add_argument("--data.path", dest="path", metavar="PATH", help="path of the IMDB data set")
    return parser, commands.choices


def _add_quantize(part: _Parser) -> None:
    part.add_argument(
        "--quantize",
        metavar="DTYPE",
        help=f"store the matrices of the recurrence as {' or '.join(NARROW)}",
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. For `compare`, `varied` has the lists of values by key."""
    parser, commands = build_parser()
    name, *arguments = argv or [""]
    varied: dict[str, list[str]] = {}
    if name in commands:
        if name == "compare":
            varied, arguments = split_settings(arguments, commands[name].options)
        _check_options(arguments, commands[name])
        arguments = _options_first(arguments, commands[name])
    elif name.startswith("-"):
        _check_options([name], parser)
    elif name:
        raise ValueError(
            f"expected a command ({', '.join(commands)}), got {name!r}"
            + _suggestion(name, commands, parser.prog)
        )
    options = parser.parse_args([name, *arguments] if name else [])
    options.varied = varied
    if getattr(options, "quantize", None) is not None:
        check_name("--quantize", options.quantize, NARROW)
    return options


def split_settings(
    arguments: Sequence[str], options: Collection[str] = ()
) -> tuple[dict[str, list[str]], list[str]]:
    """Split off `--dotted.key a,b` and `--dotted.key=a,b`, except `options`.

    Returns:
        The lists of values by key, and the other arguments.
    """
    settings: dict[str, list[str]] = {}
    waiting, others = list(arguments), []
    while waiting:
        argument = waiting.pop(0)
        key, equals, values = argument.partition("=")
        if not re.match(r"--\w+\.", key) or key in options:
            others.append(argument)
            continue
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise ValueError(f"{key}: expected values, as in {key} a,b, got none")
            values = waiting.pop(0)
        if key.removeprefix("--") in settings:
            raise ValueError(f"{key}: expected it once, as in {key} a,b, got it twice")
        settings[key.removeprefix("--")] = re.split(r",(?![^\[]*\])", values)
    return settings, others


def _check_options(arguments: Sequence[str], parser: _Parser) -> None:
    """Refuse unknown options before other errors, which they may cause."""
    for argument in takewhile(lambda argument: argument != "--", arguments):
        name = argument.partition("=")[0]
        # As in argparse: a negative number or a text with spaces is not an option.
        if re.match(r"--?[^\W\d]", name) and " " not in argument and name not in parser.options:
            raise ValueError(
                f"expected an option of {parser.prog}, got {name}"
                + _suggestion(name, parser.options, parser.prog)
            )


def _options_first(arguments: Sequence[str], parser: _Parser) -> list[str]:
    """Move options with one value to the front: argparse takes no list of texts after them."""
    waiting = list(takewhile(lambda argument: argument != "--", arguments))
    after = arguments[len(waiting) :]
    first: list[str] = []
    others: list[str] = []
    while waiting:
        argument = waiting.pop(0)
        name, equals, _ = argument.partition("=")
        action = parser._option_string_actions.get(name)
        if action is None or action.nargs is not None or not (equals or waiting):
            others.append(argument)
        else:
            first += [argument] if equals else [argument, waiting.pop(0)]
    return [*first, *others, *after]


def _suggestion(name: str, known: Collection[str], program: str) -> str:
    near = nearest(name, known)
    return f"; see {program} --help" if near is None else f"; did you mean {near}?"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `seqcells` command and return the exit status."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        print_failure(f"error: {error}")
        return 2
    with packages_required():
        from seqcells.lab.commands import run
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
