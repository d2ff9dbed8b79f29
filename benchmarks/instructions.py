"""Measure the rates of the vector instructions that multiply in float32, bfloat16 and int8.

python -m benchmarks.instructions

These rates bound the products of each precision. Every instruction is issued in a loop over
independent registers of 512 bits, in one thread. A figure is the fastest of several loops. The
loops are a C program, compiled with `$CC` or the system's compiler.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.options import parser_of
from benchmarks.table import markdown

CPU_INFO = Path("/proc/cpuinfo")
REGISTERS = 14  # independent sums: enough to hide the latency of each instruction
STEPS, LOOPS = 500_000, 20


class Instruction(NamedTuple):
    """A multiply-add on 512 bits: its operands, its name, the CPU flag, and products per lane."""

    operands: str
    name: str
    flag: str
    depth: int


INSTRUCTIONS = (
    Instruction("float32", "vfmadd231ps", "avx512f", 1),
    Instruction("bfloat16", "vdpbf16ps", "avx512_bf16", 2),
    Instruction("int8", "vpdpbusd", "avx512_vnni", 4),
)
LANES = 16
PROGRAM = """\
#include <stdio.h>
#include <time.h>
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
int main(void) {
  double fastest = 1e9;
  for (int loop = 0; loop < LOOPS; ++loop) {
    long steps = STEPS;
    const double started = now();
    __asm__ volatile(BODY : "+r"(steps) : : "cc", CLOBBERS);
    const double taken = now() - started;
    if (taken < fastest) fastest = taken;
  }
  printf("%.9g\\n", fastest);
  return 0;
}
"""


class UnavailableError(Exception):
    """The rates cannot be measured on this machine. The message is the reason."""


def missing_flags() -> list[str]:
    """Return the required CPU flags that this machine lacks."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [instruction.flag for instruction in INSTRUCTIONS if instruction.flag not in flags]


def compiler() -> list[str]:
    """Return the command of the C compiler."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"no C compiler: {command[0]} was not found; set CC")
    return command


def source(instruction: Instruction) -> str:
    """Return the C program that prints the seconds of `STEPS` steps over all registers."""
    clear = [f"vpxord %%zmm{n}, %%zmm{n}, %%zmm{n}" for n in range(REGISTERS + 2)]
    left, right = (f"%%zmm{REGISTERS + n}" for n in range(2))
    issue = [f"{instruction.name} {left}, {right}, %%zmm{n}" for n in range(REGISTERS)]
    body = [*clear, "1:", *issue, "dec %0", "jnz 1b", "vzeroupper"]
    clobbers = [f'"xmm{n}"' for n in range(REGISTERS + 2)]
    text = PROGRAM.replace("BODY", f'"{" ; ".join(body)}"').replace("CLOBBERS", ", ".join(clobbers))
    return text.replace("LOOPS", str(LOOPS)).replace("STEPS", str(STEPS))


def rate(instruction: Instruction) -> float:
    """Return the instructions per second of one thread.

    Raises:
        UnavailableError: the compiler refuses the program.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rate.c").write_text(source(instruction))
        command = [*compiler(), "-O2", "rate.c", "-o", "rate"]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if built.returncode:
            reason = next(iter(built.stderr.strip().splitlines()), "no message")
            raise UnavailableError(f"{shlex.join(command)} failed: {reason}")
        done = subprocess.run([folder / "rate"], capture_output=True, text=True, check=True)
    return STEPS * REGISTERS / float(done.stdout)


def rates() -> dict[Instruction, float]:
    """Return the instructions per second of one thread.

    Raises:
        UnavailableError: no compiler, or a CPU without the instructions.
    """
    if missing := missing_flags():
        raise UnavailableError(f"the processor lacks {', '.join(missing)}")
    return {instruction: rate(instruction) for instruction in INSTRUCTIONS}


def table(found: dict[Instruction, float]) -> Iterator[str]:
    """Yield a row per instruction, with its rate of products against that of float32."""
    products = {key: number * LANES * key.depth for key, number in found.items()}
    base = products[INSTRUCTIONS[0]]
    rows = [
        [
            key.operands,
            key.name,
            str(LANES * key.depth),
            f"{found[key] / 1e9:.2f}",
            f"{product / 1e9:.0f}",
            f"{product / base:.2f}",
        ]
        for key, product in products.items()
    ]
    figures = ["products", "1e9 instructions/s", "1e9 products/s", "products / float32"]
    return markdown(["operands", "instruction"], figures, rows)


def report() -> Iterator[str]:
    """Yield the table, or a line with the reason why there is none."""
    try:
        found = rates()
    except UnavailableError as reason:
        yield f"Rates of instructions: not measured, {reason}."
    else:
        yield "Rates of instructions on 512 bits, one thread:"
        yield ""
        yield from table(found)


def main(argv: Sequence[str]) -> None:
    parser_of(__doc__).parse_args(argv)
    print("\n".join(report()))


if __name__ == "__main__":
    main(sys.argv[1:])
