"""The native library: how it is loaded, and what it is handed."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import c_int64
from pathlib import Path

# The members of `Problem` in native/problem.hpp, in order. An array of two is `name_0 name_1` here,
# because setting an item of a ctypes array takes five times as long as setting a field.
MEMBERS = (
    "own code numbers cell is_double threads reverse "
    "steps batch gates input_size hidden_size projection whole_rows "
    "input_step input_row read_step drop_step zone_step_0 zone_step_1 "
    "lengths batch_sizes resets inputs "
    "weight_ih weight_hh bias_ih bias_hh weight_hr parameters read drop zone_0 zone_1 "
    "state_0 state_1 fresh_0 fresh_1 outputs final_state_0 final_state_1 cells saved "
    "grad_step grad_row grad_outputs grad_final_0 grad_final_1 grad_cells "
    "grad_inputs grad_state_0 grad_state_1 grad_fresh_0 grad_fresh_1 "
    "grad_weight_ih grad_weight_hh grad_bias_ih grad_bias_hh grad_weight_hr grad_parameters"
)


class Problem(ctypes.Structure):
    """One recurrence, forward or backward: sizes, strides and pointers, 0 for none."""

    _fields_ = tuple((name, c_int64) for name in MEMBERS.split())


def _layout() -> str:
    """Names and offsets as the library states its own."""
    names = [name for name in MEMBERS.split() if not name.endswith("_1")]
    fields = [f"{name.removesuffix('_0')}:{getattr(Problem, name).offset}" for name in names]
    return " ".join([*fields, str(ctypes.sizeof(Problem))])


@functools.cache
def library() -> ctypes.PyDLL | str:
    """Return the library, or the reason why there is none.

    It is loaded after torch, and so shares its OpenMP. It releases the interpreter's lock itself,
    and takes it back to handle signals.
    """
    found = sorted(Path(__file__).parent.glob("_native*.so"))
    if not found:
        return (
            "the native code was not built when seqcells was installed; install a C++ compiler "
            "(g++ or clang++) and install seqcells again"
        )
    try:
        loaded = ctypes.PyDLL(str(found[0]))
        loaded.seqcells_members.restype = ctypes.c_char_p
        same = loaded.seqcells_members().decode() == _layout()
    except (OSError, AttributeError) as error:
        return f"{found[0].name} cannot be loaded ({error}); install seqcells again"
    if not same:
        return f"{found[0].name} belongs to another version; install seqcells again"
    for function in (loaded.seqcells_forward, loaded.seqcells_backward):
        function.argtypes = [ctypes.POINTER(Problem), c_int64]
    loaded.seqcells_variant.argtypes = [c_int64]
    loaded.seqcells_variant.restype = ctypes.c_char_p
    python = ctypes.pythonapi
    functions = (python.PyEval_SaveThread, python.PyEval_RestoreThread, python.PyErr_CheckSignals)
    loaded.seqcells_python(*[ctypes.cast(function, ctypes.c_void_p) for function in functions])
    return loaded


def instruction_sets() -> list[str]:
    """Return the instruction sets that this machine runs, the best first."""
    loaded = library()
    if isinstance(loaded, str):
        return []
    names: list[str] = []
    while name := loaded.seqcells_variant(len(names)):
        names.append(name.decode())
    return names


def padded(units: int) -> int:
    """Return the width of a row of saved values, as `padded` in native/rows.hpp."""
    return -(-units // 16) * 16


# The number of the instruction set in use, in `instruction_sets`: tests go through all of them.
variant = 0


def run(function: str, problem: Problem) -> None:
    """Run `"forward"` or `"backward"`.

    Raises:
        MemoryError: no memory for the scratch space.
        RuntimeError: no library, or no such kernel.
        BaseException: whatever a signal handler raises, as KeyboardInterrupt.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    native = loaded.seqcells_forward if function == "forward" else loaded.seqcells_backward
    failed = native(problem, variant)
    if failed == 1:
        raise MemoryError(f"{function}: no memory for its scratch space")
    if failed:
        raise RuntimeError(f"{function}: no kernel {problem.cell}, variant {variant}")


forked = False  # whether this process was forked from one that had loaded the library


def _after_fork() -> None:
    """OpenMP's threads are gone in a forked process; waiting for them would never end."""
    global forked
    forked = True


os.register_at_fork(after_in_child=_after_fork)
