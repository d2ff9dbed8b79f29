"""Compile the kernels that calls would launch, without having the GPU.

Arguments: its compute capability, the bytes of shared memory that a program can have there, and
lists of cells, of hidden sizes and of dtypes.
Prints, as JSON, what the compiler made of each.
"""

import json
import sys

import torch
import triton
from triton.backends.compiler import GPUTarget

from seqcells.equations.catalogue import kernel_of
from seqcells.kernels import triton as kernels
from seqcells.kernels.call import Call
from seqcells.kernels.triton import launch, planning

capability, shared, CELLS, SIZES, DTYPES = map(json.loads, sys.argv[1:])


class Compiler:
    """The part of a GPU's driver that the compiler needs."""

    def get_current_target(self):
        return GPUTarget("cuda", capability, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0


found = []


def compiled(kernel, grid, *arguments, **constants):
    made = kernel.warmup(*arguments, grid=grid, **constants)
    found.append(
        {
            "kernel": kernel.__name__,
            "product": constants["PRODUCT"],
            "shared": made.metadata.shared,
            "tensor_cores": "mma" in made.asm["ptx"],
            "before": made.asm["ttgir"].partition("scf.for")[0].count("ttg.local_alloc"),
        }
    )


def call_of(cell, dtype, H):
    kind, T, B, I = kernel_of(cell), 2, 3, 4  # noqa: E741

    def some(*shape):
        return torch.zeros(shape, dtype=dtype)

    return Call.of(
        cell,
        some(T, B, I),
        [some(B, H) for _ in range(kind.states)],
        some(kind.inputs * H, I),
        some(kind.gates * H, H) if kind.hidden else None,
        some(kind.inputs * H),
        some(kind.gates * H) if kind.hidden else None,
        None,
        some(kind.parameters, H) if kind.parameters else None,
        [],
        some(B, H) if kind.hidden else None,
        some(T, B, H) if kind.takes_drop else None,
        [some(B, H) for _ in range(kind.states)],
        torch.tensor([2, 0, 1]),
        None,
        None,
        False,
        False,
    )


triton.runtime.driver.set_active(Compiler())
launch.launch = compiled
planning.shared_memory = lambda device: shared
for cell in CELLS:
    for size in SIZES:
        for dtype in DTYPES:
            call = call_of(cell, getattr(torch, dtype), size)
            outputs, *final, saved = kernels.forward(call, train=True)
            grads = [torch.zeros_like(part) for part in (outputs, *final)]
            kernels.backward(call, grads, outputs, saved, [True] * len(call.tensors))
print(json.dumps(found))
