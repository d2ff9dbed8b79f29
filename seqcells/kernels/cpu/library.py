"""Load the native library and call its functions."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import c_int64
from pathlib import Path

import torch

from seqcells.equations.program import MOST_PARTS


def _parts(name: str) -> str:
    """Return the names of the items of a member with one item per part of the state.

    To set an item of a ctypes array takes five times as long as to set a field.
    """
    return " ".join(f"{name}_{n}" for n in range(MOST_PARTS))


# Members of `Problem` in native/problem.hpp, in order.
MEMBERS = (
    "custom_cell code constants cell is_double threads reverse "
    "steps batch gates input_size hidden_size projection heads whole_rows "
    "narrow stored "
    f"input_step input_row read_step drop_step {_parts('zone_step')} "
    "lengths batch_sizes resets inputs "
    "weight_ih weight_hh bias_ih bias_hh weight_hr parameters packed read drop "
    f"{_parts('zone')} {_parts('state')} {_parts('fresh')} "
    f"outputs {_parts('final_state')} saved {_parts('states')} "
    f"grad_step grad_row grad_outputs {_parts('grad_final')} {_parts('grad_states')} "
    f"grad_inputs {_parts('grad_state')} {_parts('grad_fresh')} "
    "grad_weight_ih grad_weight_hh grad_bias_ih grad_bias_hh grad_weight_hr grad_parameters"
)


class Problem(ctypes.Structure):
    """One recurrence, forward or backward: sizes, strides and pointers, 0 for none."""

    _fields_ = tuple((name, c_int64) for name in MEMBERS.split())


def _layout() -> str:
    """Return names and offsets in the format of `seqcells_members`."""
    names = [name for name in MEMBERS.split() if not name[-1].isdigit() or name.endswith("_0")]
    fields = [f"{name.removesuffix('_0')}:{getattr(Problem, name).offset}" for name in names]
    return " ".join([*fields, str(ctypes.sizeof(Problem))])


PACKED = 1  # a `Path` of native/problem.hpp: read packed weights, in any call


@functools.cache
def library() -> ctypes.PyDLL | str:
    """Return the library, or the reason why it is unavailable.

    It is loaded after torch, so that both share one OpenMP runtime. It releases the GIL, and
    acquires it to handle signals.
    """
    paths = sorted(Path(__file__).parent.glob("_native*.so"))
    if not paths:
        return (
            "the C++ kernels were not built when seqcells was installed; install g++ or clang++, "
            "then run pip install --force-reinstall --no-deps . in the source folder"
        )
    try:
        loaded = ctypes.PyDLL(str(paths[0]))
        loaded.seqcells_members.restype = ctypes.c_char_p
        matches = loaded.seqcells_members().decode() == _layout()
    except (OSError, AttributeError) as error:
        return f"{paths[0].name} cannot be loaded ({error}); reinstall seqcells"
    if not matches:
        return f"{paths[0].name} was built for another version of seqcells; reinstall seqcells"
    for function in (loaded.seqcells_forward, loaded.seqcells_backward):
        function.argtypes = [ctypes.POINTER(Problem), c_int64]
    for function in (loaded.seqcells_forward_models, loaded.seqcells_backward_models):
        function.argtypes = [ctypes.POINTER(Problem), c_int64, c_int64]
    pointer, size = ctypes.c_void_p, c_int64
    loaded.seqcells_stepper_create.argtypes = [ctypes.POINTER(Problem), size, size, size]
    loaded.seqcells_stepper_create.restype = pointer
    loaded.seqcells_stepper_destroy.argtypes = [pointer]
    loaded.seqcells_stepper_set.argtypes = [pointer, size, ctypes.POINTER(pointer), pointer]
    loaded.seqcells_stepper_get.argtypes = [pointer, size, ctypes.POINTER(pointer)]
    loaded.seqcells_stepper_step.argtypes = [pointer, pointer, pointer]
    loaded.seqcells_use_features.argtypes = [c_int64]
    loaded.seqcells_use_features.restype = c_int64
    loaded.seqcells_set_path.argtypes = [c_int64]
    loaded.seqcells_set_path.restype = c_int64
    loaded.seqcells_packed_size.argtypes = [ctypes.POINTER(Problem), c_int64]
    loaded.seqcells_packed_size.restype = c_int64
    loaded.seqcells_variant.argtypes = [c_int64]
    loaded.seqcells_variant.restype = ctypes.c_char_p
    python = ctypes.pythonapi
    functions = (python.PyEval_SaveThread, python.PyEval_RestoreThread, python.PyErr_CheckSignals)
    loaded.seqcells_python(*[ctypes.cast(function, ctypes.c_void_p) for function in functions])
    global single_threaded
    single_threaded = single_threaded or not loaded.seqcells_has_threads()
    return loaded


def instruction_sets() -> list[str]:
    """Return the instruction sets that this machine supports, the fastest first."""
    loaded = library()
    if isinstance(loaded, str):
        return []
    names: list[str] = []
    while name := loaded.seqcells_variant(len(names)):
        names.append(name.decode())
    return names


def features() -> list[str]:
    """Return the numbers whose dot-product instructions are in use."""
    loaded = library()
    used = 0 if isinstance(loaded, str) else loaded.seqcells_use_features(-1)
    return [name for bit, name in ((1, "bfloat16"), (2, "int8")) if used & bit]


def padded(units: int) -> int:
    """Return the padded width of a row of saved values, as `padded` in native/rows.hpp."""
    return -(-units // 16) * 16


def packed_size(problem: Problem) -> int:
    """Return the bytes of packed int8 weights."""
    loaded = library()
    return 0 if isinstance(loaded, str) else int(loaded.seqcells_packed_size(problem, variant))


# Index in `instruction_sets` of the one in use. Tests set it.
variant = 0


def instruction_set() -> str:
    """Return the name of the instruction set in use."""
    return instruction_sets()[variant]


def run(function: str, problem: Problem) -> None:
    """Run the native function "forward" or "backward".

    Raises:
        MemoryError: scratch memory cannot be allocated.
        RuntimeError: the library is unavailable, or the kernel is unknown.
        BaseException: an exception of a signal handler, such as KeyboardInterrupt.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    native = loaded.seqcells_forward if function == "forward" else loaded.seqcells_backward
    if failed := native(problem, variant):
        raise _error(failed, function, problem)


def run_models(function: str, first: Problem, second: Problem, models: int) -> None:
    """Run "forward" or "backward" for several models, given the problems of the first two.

    Raises:
        The exceptions of `run`.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    native = getattr(loaded, f"seqcells_{function}_models")
    if failed := native((Problem * 2)(first, second), models, variant):
        raise _error(failed, function, first)


def _error(failed: int, function: str, problem: Problem) -> Exception:
    """Return the exception of a native status other than 0."""
    if failed == 1:
        return MemoryError(f"{function}: cannot allocate scratch memory; use a smaller batch")
    return RuntimeError(
        f"{function}: expected a known kernel and variant, got kernel {problem.cell}, variant "
        f"{variant}; reinstall seqcells"
    )


# Whether calls run in one thread: without OpenMP, or in a forked process.
single_threaded = False


def thread_count() -> int:
    """Return the number of threads of a call."""
    return 1 if single_threaded else torch.get_num_threads()


def _after_fork() -> None:
    """Use one thread in a forked process, which does not inherit the threads of OpenMP."""
    global single_threaded
    single_threaded = True


os.register_at_fork(after_in_child=_after_fork)
