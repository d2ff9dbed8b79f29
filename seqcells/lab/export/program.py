"""torch.export: the model as a graph of operators, a recurrence of any length as one of them."""

from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from seqcells.lab.export.metadata import to_metadata
from seqcells.lab.files import write_atomically
from seqcells.lab.training import Config


def save(model: nn.Module, config: Config, path: Path) -> None:
    """Write the program, its settings as `extra_files`; `import seqcells` before loading it::

    import seqcells
    program = torch.export.load("model.pt2").module()
    logits = program(tokens, lengths)
    """
    files, program = to_metadata(config), _program(model)
    write_atomically(path, lambda file: torch.export.save(program, file, extra_files=files))


def _program(model: nn.Module) -> ExportedProgram:
    """A classifier of texts, `tokens (T, B)` and `lengths (B,)`, both int64, to logits `(B,)`.

    T and B may be anything from 1 on. seqcells' recurrences are operators of its own, so whoever
    loads the program has to import seqcells; torch.nn's would fix T at what it was.
    """
    time, batch = Dim("time", min=1), Dim("batch", min=1)
    tokens, lengths = torch.zeros(3, 2, dtype=torch.int64), torch.tensor([3, 2])
    shapes = {"tokens": {0: time, 1: batch}, "lengths": {0: batch}}
    # Strict, as len(tensor) would be a constant else.
    program = torch.export.export(model, (tokens, lengths), dynamic_shapes=shapes, strict=True)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it tells where this machine keeps its files
    return program
