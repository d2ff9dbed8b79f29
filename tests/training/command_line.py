"""Helpers of the tests of commands."""

from seqcells.lab.cli import main

SMALL = """
data: {max_tokens: 20}
model: {kind: KIND, embedding_size: 8, hidden_size: 6, embedding_dropout: 0.2, dropout: 0.2}
training: {epochs: 2, batch_size: 32, threads: 1, learning_rate: 0.01}
"""


def write_config(folder, kind="window", name="small", extra=""):
    path = folder / f"{name}.yaml"
    path.write_text(SMALL.replace("KIND", kind) + extra)
    return str(path)


def failure(capfd, arguments, function=main):
    """Return the one-line error of an invalid command."""
    status = function(arguments)
    output, error = capfd.readouterr()
    assert status == 2
    assert output == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def failure_after_output(capfd, arguments):
    capfd.readouterr()
    assert main(arguments) == 2
    return capfd.readouterr().err
