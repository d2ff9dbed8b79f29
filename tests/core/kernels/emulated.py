"""The native library of another processor, which runs in an emulator in place of this one's.

`use` replaces the library that the CPU backend has loaded. Each native call then sends its problem,
with the memory that it points to, to `emulated.cpp`, and copies the memory back.
"""

import ctypes
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from torch import Tensor

from seqcells.kernels import cpu
from seqcells.kernels.cpu import compiler, problem
from seqcells.kernels.cpu.library import MEMBERS, Problem

HERE = Path(__file__).parent
FUNCTIONS = (
    *("forward", "backward", "packed_size", "variant"),
    *("use_features", "has_threads", "last_reads", "set_path"),
)
NAMES = MEMBERS.split()
NUMBERS = {*NAMES[NAMES.index("cell") : NAMES.index("lengths")], "grad_step", "grad_row"}
LINE = 64  # bytes of alignment


def build(folder, command, machine):
    """Compile the library with `emulated.cpp`; return the program."""
    built_for = compiler.target("Linux", machine)
    shared = [*command, *compiler.FLAGS, "-fopenmp"]

    def compile_one(item):
        name, source, flags = item
        source = compiler.NATIVE / source if source != "emulated.cpp" else HERE / source
        run([*shared, "-I", compiler.NATIVE, *flags, "-c", source, "-o", folder / name])
        return folder / name

    with ThreadPoolExecutor(2) as pool:
        items = [*compiler.objects(built_for), ("emulated.o", "emulated.cpp", [])]
        objects = list(pool.map(compile_one, items))
    run([*shared, "-static", *objects, "-o", folder / "emulated"])
    return folder / "emulated"


def run(command):
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


class Library:
    """The functions of the native library that calls use."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.sizes = {}  # bytes of memory from each address on
        self.calls = 0

        for number, name in enumerate(FUNCTIONS):
            setattr(self, f"seqcells_{name}", partial(self._call, number))

    def close(self):
        with self.process as process:
            process.stdin.close()
            assert process.wait(timeout=20) == 0

    def _call(self, function, *arguments):
        problem = arguments[0] if arguments and isinstance(arguments[0], Problem) else None
        result = self.request(function, problem, arguments[-1] if arguments else 0)
        if FUNCTIONS[function] == "variant":
            return result.to_bytes(8, "little").rstrip(b"\0")
        return result

    def request(self, function, problem, number):
        """Send a call, wait for its result, and copy its memory back."""
        places, pieces, sent = [], [], b""
        if problem is not None:
            copy = Problem.from_buffer_copy(problem)
            pointers = {n: getattr(copy, n) for n in NAMES if n not in NUMBERS and getattr(copy, n)}
            pieces = merged((at, at + self.sizes[at]) for at in pointers.values())
            starts, at = [], 0
            for first, end in pieces:  # at the same distance from a cache line
                starts.append(at + first % LINE)
                at = starts[-1] + end - first
                at += -at % LINE
            for name, pointer in pointers.items():
                place = next(n for n, (first, end) in enumerate(pieces) if first <= pointer <= end)
                setattr(copy, name, starts[place] + pointer - pieces[place][0])
                places.append(getattr(Problem, name).offset)
            memory = bytearray(at)
            for start, (first, end) in zip(starts, pieces):
                memory[start : start + end - first] = ctypes.string_at(first, end - first)
            sent = bytes(copy) + memory
        size = ctypes.sizeof(Problem) if problem is not None else 0
        head = (function, number, number, size, len(sent) - size, len(places))
        self.process.stdin.write(struct.pack(f"{6 + len(places)}q", *head, *places) + sent)
        self.process.stdin.flush()
        (result,) = struct.unpack("q", self.process.stdout.read(8))
        if FUNCTIONS[function] in ("forward", "backward"):
            self.calls += 1
            memory = self.process.stdout.read(len(sent) - size)
            for start, (first, end) in zip(starts, pieces):
                ctypes.memmove(first, memory[start : start + end - first], end - first)
        return result


def merged(ranges):
    """Return the union of ranges of addresses."""
    found = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([first, end])
    return found


def use(library, monkeypatch):
    """Run native calls in this library. Records the sizes of the memory that problems refer to."""
    pointer, encode = Tensor.data_ptr, problem.encode

    def data_ptr(tensor):
        at, storage = pointer(tensor), tensor.untyped_storage()
        library.sizes[at] = storage.nbytes() - tensor.storage_offset() * tensor.itemsize
        return at

    def encode_and_record(program):
        arrays = encode(program)
        for array in arrays:
            address, length = array.buffer_info()
            library.sizes[address] = length * array.itemsize
        return arrays

    monkeypatch.setattr(Tensor, "data_ptr", data_ptr)
    monkeypatch.setattr(problem, "encode", encode_and_record)
    monkeypatch.setattr(cpu.packed, "PANELS", {})  # in the layout of an instruction set
    monkeypatch.setattr(cpu.library, "variant", 0)
    monkeypatch.setattr(cpu.library, "library", lambda: library)
