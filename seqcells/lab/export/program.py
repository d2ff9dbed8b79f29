"""torch.export: the model as a graph in which each recurrence is one operator."""

from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from seqcells.lab.export.metadata import to_metadata
from seqcells.lab.export.parts import refuse_quantized
from seqcells.lab.files import write_atomically
from seqcells.lab.training import Config


def save(model: nn.Module, config: Config, path: Path) -> None:
    """Write the program, with metadata as `extra_files`. Loading requires `import seqcells`::

    import seqcells
    program = torch.export.load("model.pt2").module()
    logits = program(tokens, lengths)

    Raises:
        ValueError: `model` is quantized.
    """
    refuse_quantized(model)
    files, program = to_metadata(config), _program(model)
    write_atomically(path, lambda file: torch.export.save(program, file, extra_files=files))


def _program(model: nn.Module) -> ExportedProgram:
    """Export a text classifier: int64 `tokens (T, B)` and `lengths (B,)` to logits `(B,)`.

    T and B are dynamic, at least 1. Recurrences of seqcells are custom operators, so a program that
    loads the file imports seqcells. Recurrences of torch.nn would specialise on T.
    """
    time, batch = Dim("time", min=1), Dim("batch", min=1)
    tokens, lengths = torch.zeros(3, 2, dtype=torch.int64), torch.tensor([3, 2])
    shapes = {"tokens": {0: time, 1: batch}, "lengths": {0: batch}}
    # Non-strict export would specialise on len(tensor).
    program = torch.export.export(model, (tokens, lengths), dynamic_shapes=shapes, strict=True)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # contains local paths
    return program
