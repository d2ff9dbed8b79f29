"""A recorded program is reused only while nothing that `activate` reads has changed."""

import copy
import gc
import math
import pickle
import random as random_module
import types
import weakref
from operator import setitem
from typing import NamedTuple

import pytest
import torch
from parity import F64, close, random
from torch import nn

import seqcells
from seqcells import Recurrent, backend
from seqcells.kernels import cpu

T, B, I, H = 4, 3, 2, 5  # noqa: E741

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)

SCALE = 0.5
BOX = [0.5]
TABLE = {"scale": {"inner": [0.5]}}
SETTINGS = types.SimpleNamespace(scale=0.5)


def scaled(x):
    return SCALE * x


def times(scale=0.5):
    def function(x):
        return scale * x

    return function


TIMES, MORE = times(), times()


class Base(seqcells.GatedCell):
    """A cell whose `activate` reads something through `scaled`."""

    gates = ("candidate",)
    on_class = 0.5

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.number, self.listed, self.flag = 0.5, [0.5], True
        self.table = {"scale": (0.5, [0.5])}
        self.act = nn.LeakyReLU(0.5)

    def activate(self, from_input, from_hidden, state):
        new = torch.tanh(self.scaled(from_input + from_hidden))
        return new, (new,)

    def scaled(self, x):
        raise NotImplementedError


def kind(scaled, change):
    """Return a subclass that reads through `scaled(self, x)`, and `change(cell)`."""
    return type("Own", (Base,), {"scaled": scaled}), change


def set_global(name, value):
    return lambda cell: globals().__setitem__(name, value)


def change_default(cell):
    scaled.__defaults__ = (0.25,)


# Each entry: how `activate` reads something, and what changes it.
READS = {
    "number": kind(lambda self, x: self.number * x, lambda cell: setattr(cell, "number", 0.25)),
    "flag": kind(lambda self, x: x if self.flag else -x, lambda cell: setattr(cell, "flag", False)),
    "training": kind(lambda self, x: x if self.training else -x, lambda cell: cell.eval()),
    "list": kind(lambda self, x: self.listed[0] * x, lambda cell: cell.listed.__setitem__(0, 0.25)),
    "nested": kind(
        lambda self, x: self.table["scale"][1][0] * x,
        lambda cell: cell.table["scale"][1].__setitem__(0, 0.25),
    ),
    "class": kind(lambda self, x: self.on_class * x, lambda cell: setattr(Base, "on_class", 0.25)),
    "global": kind(lambda self, x: SCALE * x, set_global("SCALE", 0.25)),
    "global list": kind(lambda self, x: BOX[0] * x, lambda cell: BOX.__setitem__(0, 0.25)),
    "global dict": kind(
        lambda self, x: TABLE["scale"]["inner"][0] * x,
        lambda cell: TABLE["scale"]["inner"].__setitem__(0, 0.25),
    ),
    "record": kind(
        lambda self, x: SETTINGS.scale * x, lambda cell: setattr(SETTINGS, "scale", 0.25)
    ),
    "function": kind(lambda self, x: scaled(x), set_global("SCALE", 0.25)),
    "another function": kind(lambda self, x: scaled(x), set_global("scaled", lambda x: -x)),
    "closure": kind(
        lambda self, x: TIMES(x),
        lambda cell: setattr(TIMES.__closure__[0], "cell_contents", 0.25),
    ),
    "another closure": kind(
        lambda self, x: TIMES(x) + MORE(x),
        lambda cell: setattr(MORE.__closure__[0], "cell_contents", 0.25),
    ),
    "builtin": kind(
        lambda self, x: max(0.5, 0.25) * x,
        lambda cell: setitem(globals(), "max", min),
    ),
    "module": kind(lambda self, x: math.tau * x, lambda cell: setattr(math, "tau", 0.25)),
    "activation": kind(
        lambda self, x: self.act(x), lambda cell: setattr(cell.act, "negative_slope", 0.25)
    ),
    "bound of a clamp": kind(
        lambda self, x: x.clamp(-10 * BOX[0], 10 * BOX[0]), lambda cell: BOX.__setitem__(0, 0.25)
    ),
    "method": kind(
        lambda self, x: self.helper(x), lambda cell: setattr(type(cell), "helper", lambda s, x: -x)
    ),
    "instance": kind(
        lambda self, x: self.helper(x), lambda cell: setattr(cell, "helper", lambda x: -x)
    ),
    "generator": kind(
        lambda self, x: sum(scale * x for scale in self.listed),
        lambda cell: cell.listed.append(0.25),
    ),
    "property": kind(lambda self, x: self.halved * x, lambda cell: setattr(cell, "number", 0.25)),
}
Base.helper = staticmethod(lambda x: 0.5 * x)
Base.halved = property(lambda self: self.number / 2)


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Restore every value after each test."""
    for name, value in (("SCALE", 0.5), ("BOX", [0.5]), ("scaled", scaled)):
        monkeypatch.setitem(globals(), name, value)
    monkeypatch.setitem(globals(), "TABLE", {"scale": {"inner": [0.5]}})
    monkeypatch.setitem(globals(), "SETTINGS", types.SimpleNamespace(scale=0.5))
    monkeypatch.setitem(globals(), "TIMES", times())
    monkeypatch.setitem(globals(), "MORE", times())
    monkeypatch.setitem(globals(), "max", max)
    del globals()["max"]
    monkeypatch.setattr(math, "tau", math.tau)
    monkeypatch.setattr(Base, "on_class", 0.5)


def both(recurrent, inputs):
    """Return the outputs of the default backend; outputs and gradients must equal the loop's."""
    found = []
    for name in ("auto", "reference"):
        leaf = inputs.clone().requires_grad_()
        recurrent.zero_grad()
        with backend(name):
            outputs, _ = recurrent(leaf)
            outputs.sum().backward()
        found.append([outputs, leaf.grad, *(p.grad for p in recurrent.parameters())])
    close(*found)
    return found[0][0]


@pytest.mark.parametrize("compiled", [False, True], ids=["interpreted", "compiled"])
@pytest.mark.parametrize("what", READS)
def test_a_change_is_read_again(what, compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path))
    monkeypatch.setenv("CXXFLAGS", "-O0")
    own, change = READS[what]
    cell = type("Fresh", (own,), {})(I, H, dtype=F64)
    cell.compiles = compiled
    recurrent, inputs = Recurrent(cell), 50 * random(T, B, I)
    with backend("cpu"):
        recurrent(inputs)  # it is recorded
    before = both(recurrent, inputs)
    change(cell)
    after = both(recurrent, inputs)
    assert not torch.equal(before, after)
    with backend("cpu"):
        recurrent(inputs)


class Anything:
    """An object that computes its attributes."""

    scale = 0.5

    def __getattr__(self, name):
        return random_module.random()


class Numbers(NamedTuple):
    number: torch.Tensor

    def doubled(self):
        return 2 * SCALE * self.number


class Marked(NamedTuple):
    number: torch.Tensor
    SCALE = 0.5


def scale_of(cell, x):
    return cell.number * x


FUNCTIONS = [lambda x: SCALE * x]
ANYTHING, NUMBERS = Anything(), iter(range(1000))
REFUSED = {
    "random": (lambda self, x: random_module.random() * x, "random"),
    "object": (lambda self, x: ANYTHING.other * x, "Anything cannot be followed"),
    "iterator": (lambda self, x: next(NUMBERS) * x, "next"),
    "count": (lambda self, x: self.counted(x), "modifies a value"),
    "append": (lambda self, x: (self.listed.append(1), x)[1], "append"),
    "self": (lambda self, x: doubled(self) * x, "passes self on"),
    "getattr": (lambda self, x: getattr(self, "num" + "ber") * x, "getattr"),
    "functions": (lambda self, x: FUNCTIONS[0](x), "changes of a function cannot"),
    "wrapped": (lambda *args: scale_of(*args), "takes self in"),
    "method of the state": (lambda self, x: Numbers(x).doubled(), "changes of a type cannot"),
    "constant of the state": (lambda self, x: Marked(x).SCALE * x, "changes of a type cannot"),
    "class of a tensor": (lambda self, x: x.__class__.neg(x), "__class__"),
    "dtype": (lambda self, x: x if x.dtype == F64 else -x, r"\.dtype"),
    "rows": (lambda self, x: x / x.shape[0], "number of rows"),
    "mode": (lambda self, x: x if torch.is_grad_enabled() else -x, "is_grad_enabled"),
    "default dtype": (lambda self, x: x if torch.get_default_dtype() else -x, "get_default_dtype"),
    "import": (lambda self, x: __import__("math").pi * x, "__import__"),
}


def doubled(cell):
    return 2 * cell.number


def counted(self, x):
    self.calls = 1
    return x


Base.counted = counted


@pytest.mark.parametrize("what", REFUSED)
def test_an_untraceable_read_runs_as_the_loop(what):
    read, words = REFUSED[what]
    recurrent = Recurrent(type("Own", (Base,), {"scaled": read})(I, H, dtype=F64))
    inputs = random(T, B, I)
    with backend("cpu"), pytest.raises(RuntimeError, match=words):
        recurrent(inputs)
    state = random_module.getstate()
    found = []
    for name in ("auto", "reference"):
        random_module.setstate(state)
        monkey = iter(range(1000))
        globals()["NUMBERS"] = monkey
        with backend(name):
            found.append(recurrent(inputs)[0])
    close(*found)


def test_a_cell_defined_in_a_string_is_recorded():
    """As in a notebook: its functions have no module."""
    names = {"Base": Base}
    exec("class Own(Base):\n    def scaled(self, x):\n        return self.number * x\n", names)
    cell = names["Own"](I, H, dtype=F64)
    with backend("cpu"):
        before = Recurrent(cell)(random(T, B, I))[0]
    assert before.shape == (T, B, H)


def test_a_recording_stays_with_its_cell():
    cell = READS["list"][0](I, H, dtype=F64)
    inputs = random(T, B, I)
    both(Recurrent(cell), inputs)
    for copied in (copy.deepcopy(cell), pickle.loads(pickle.dumps(Blend(I, H, dtype=F64)))):
        before = both(Recurrent(copied), inputs)
        copied.listed[0] = 0.25
        assert not torch.equal(before, both(Recurrent(copied), inputs))
    both(Recurrent(cell), inputs)
    alive = weakref.ref(cell)
    del cell
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_leaves_no_tensor_in_a_cache(strict):
    """Later calls would read it."""

    class Fresh(Base):
        def scaled(self, x):
            return (0.1234 + strict) * x

    inputs = random(T, B, I)
    torch.export.export(Recurrent(Fresh(I, H, dtype=F64)), (inputs,), strict=strict)
    both(Recurrent(Fresh(I, H, dtype=F64)), inputs)


@pytest.mark.parametrize("compiled", [False, True], ids=["interpreted", "compiled"])
def test_a_long_chain_of_operations_runs_as_a_kernel(compiled, monkeypatch):
    monkeypatch.setenv("CXXFLAGS", "-O0")

    class Deep(seqcells.GatedCell):
        gates = ("candidate",)

        def activate(self, from_input, from_hidden, state):
            new = from_input + from_hidden
            for _ in range(500):
                new = torch.tanh(new) * 0.9 + state
            return new, (new,)

    cell = Deep(I, H, dtype=F64)
    cell.compiles = compiled
    both(Recurrent(cell), random(T, B, I))
    with backend("cpu"):
        Recurrent(cell)(random(T, B, I))


class Blend(Base):
    """A cell that can be pickled."""

    def scaled(self, x):
        return self.listed[0] * x


def test_a_subclass_may_call_super():
    class Scaled(Base):
        def scaled(self, x):
            return 0.5 * x

    class Halved(Scaled):
        factor = 0.5

        def scaled(self, x):
            return super().scaled(self.factor * x)

    recurrent, inputs = Recurrent(Halved(I, H, dtype=F64)), random(T, B, I)
    with backend("cpu"):
        recurrent(inputs)
    before = both(recurrent, inputs)
    Halved.factor = 0.25
    after = both(recurrent, inputs)
    assert not torch.equal(before, after)
    Scaled.scaled = lambda self, x: -x
    assert not torch.equal(after, both(recurrent, inputs))


COMPILED_AGAIN = ["number", "global", "list", "closure"]
COMPILED_AGAIN += [pytest.param(what, marks=pytest.mark.slow) for what in ("flag", "class")]


@pytest.mark.parametrize("what", COMPILED_AGAIN)
def test_a_change_compiles_the_graph_again(what):
    """Including a third value: Dynamo makes a number symbolic from the second on."""
    own, change = READS[what]
    cell = type("Fresh", (own,), {})(I, H, dtype=F64)
    recurrent, inputs = Recurrent(cell), random(T, B, I)
    torch._dynamo.reset()
    compiled = torch.compile(recurrent, backend="eager", dynamic=None)
    close(compiled(inputs), recurrent(inputs))
    change(cell)
    close(compiled(inputs), recurrent(inputs))
    for value in (0.75, 0.125, 0.3):
        cell.number = value
        Base.on_class = value
        cell.listed[0] = value
        globals()["SCALE"] = value
        TIMES.__closure__[0].cell_contents = value
        close(compiled(inputs), recurrent(inputs))
