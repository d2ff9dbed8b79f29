"""The C++ kernel equals the readable loop: random shapes on every instruction set."""

import random
import time

import pytest
import torch
from cell_table import CELLS
from parity import F64, leaves, relative_error
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import seqcells
from seqcells.equations.catalogue import kernel_of
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

SIZES = (1, 2, 3, 5, 15, 16, 17, 31, 40, 64, 65, 130)
LAYERS = {
    "rnn_tanh": seqcells.RNN,
    "rnn_relu": seqcells.RNN,
    "gru": seqcells.GRU,
    "lstm": seqcells.LSTM,
    "lstm_proj": seqcells.LSTM,
}


class Case:
    """A cell or a layer of random shape, its inputs, and upstream gradients for all results."""

    def __init__(self, seed, few=False, single=False):
        choose = random.Random(seed)
        torch.manual_seed(seed)
        self.kind = choose.choice(sorted(CELLS))
        self.T, self.B = choose.choice((1, 2, 3, 7, 20, 40)), choose.choice((1, 2, 3, 8, 13, 33))
        self.I, self.H = choose.choice(SIZES), choose.choice(SIZES[3:])
        self.dtype = choose.choice((torch.float32, F64))
        self.threads = choose.choice((1, 2, 3))
        if few:
            self.T, self.B, self.H = 7, choose.choice((1, 2, 5)), choose.choice((193, 256, 300))
            self.threads = 2
        if single:
            self.T, self.B, self.I, self.H, self.threads = 150, 1, 33, choose.choice((64, 80)), 2
        self.reverse = choose.random() < 0.5
        self.batch_first = choose.random() < 0.3
        self.train = choose.random() < 0.8
        self.packed = self.kind in LAYERS and choose.random() < 0.3
        ragged = self.packed or choose.random() < 0.5
        shortest = 1 if self.packed else 0
        lengths = torch.tensor([choose.randint(shortest, self.T) for _ in range(self.B)])
        self.lengths = lengths if ragged else None
        resets = choose.random() < 0.4 and not self.packed
        self.module = self.build(choose.random() < 0.7)
        shape = (self.B, self.T) if self.batch_first else (self.T, self.B)
        self.resets = torch.rand(shape) < 0.15 if resets else None
        self.inputs = torch.randn(*shape, self.I, dtype=self.dtype)
        self.state = self.initial_state() if choose.random() < 0.7 else None
        self.upstream = [choose.random() < 0.8 for _ in range(5)]

    def build(self, bias):
        cell = CELLS[self.kind].cell
        options = {**CELLS[self.kind].options, "bias": bias, "dtype": self.dtype}
        if self.packed:
            layers = 2 if self.reverse else 1
            return LAYERS[self.kind](
                *(self.I, self.H, layers),
                **{**options, "batch_first": self.batch_first, "bidirectional": self.reverse},
            )
        return seqcells.Recurrent(
            cell(self.I, self.H, **options), reverse=self.reverse, batch_first=self.batch_first
        )

    def initial_state(self):
        widths = [3 if self.kind == "lstm_proj" else self.H]
        widths += [self.H] * (kernel_of(self.kind.removesuffix("_proj")).states - 1)
        layers = (4 if self.reverse else 1,) if self.packed else ()
        parts = [torch.randn(*layers, self.B, width, dtype=self.dtype) for width in widths]
        if self.kind == "slstm":
            parts[2] = parts[2].abs() + 0.5  # the normalizer, which divides
        return tuple(parts) if len(parts) > 1 else parts[0]

    def __str__(self):
        names = "kind T B I H dtype threads reverse batch_first train packed lengths resets"
        return ", ".join(f"{name}={getattr(self, name)}" for name in names.split())

    def compute(self, backend, dtype):
        """Everything a user can see, by name."""
        module = self.module.to(dtype)
        sources = {"inputs": self.inputs}
        parts = [] if self.state is None else leaves(self.state)
        sources |= {f"state[{n}]": part for n, part in enumerate(parts)}
        sources = {
            name: value.detach().to(dtype).requires_grad_(self.train)
            for name, value in sources.items()
        }
        state = None
        if parts:
            made = [sources[f"state[{n}]"] for n in range(len(parts))]
            state = tuple(made) if len(made) > 1 else made[0]
        module.requires_grad_(self.train).zero_grad()
        with seqcells.backend(backend):
            outputs, final = self.call(module, sources["inputs"], state)
            results = {"outputs": outputs}
            results |= {f"final[{n}]": part for n, part in enumerate(leaves(final))}
            if self.train:
                self.differentiate(list(results.values()))
        if self.train:
            sources |= dict(module.named_parameters())
            results |= {f"grad {n}": v.grad for n, v in sources.items() if v.grad is not None}
        return {name: value.detach() for name, value in results.items()}

    def call(self, module, inputs, state):
        if not self.packed:
            return module(inputs, state, lengths=self.lengths, resets=self.resets)
        packed = pack_padded_sequence(inputs, self.lengths, self.batch_first, enforce_sorted=False)
        outputs, final = module(packed, state)
        assert isinstance(outputs, PackedSequence)
        return pad_packed_sequence(outputs, self.batch_first)[0], final

    def differentiate(self, results):
        generator = torch.Generator().manual_seed(1)
        wanted = [n for n in range(len(results)) if self.upstream[n]] or [0]
        grads = [torch.randn(results[n].shape, generator=generator) for n in wanted]
        pairs = [(results[n], grad.to(results[n])) for n, grad in zip(wanted, grads)]
        torch.autograd.backward(*zip(*pairs))


def check(seed, **options):
    case = Case(seed, **options)
    before = torch.get_num_threads()
    torch.set_num_threads(case.threads)
    try:
        found = case.compute("cpu", case.dtype)
    finally:
        torch.set_num_threads(before)
    exact = case.compute("reference", F64)
    loop = case.compute("reference", case.dtype) if case.dtype == torch.float32 else exact
    assert found.keys() >= exact.keys(), case
    for name in found.keys() - exact.keys():  # the loop gives no gradient where nothing depends
        assert not found[name].any(), f"{name}: {case}"
    for name in exact:
        value = found[name]
        assert value.dtype == case.dtype, f"{name}: {case}"
        assert value.shape == exact[name].shape, f"{name}: {case}"
        allowed = 1e-12
        if case.dtype == torch.float32:
            # A norm divides by numbers that may be small, and a result of one number may be small
            # beside its terms.
            eps = torch.finfo(torch.float32).eps
            allowed = 12 * (relative_error(loop[name], exact[name]) + eps)
        assert relative_error(value, exact[name]) <= allowed, f"{name}: {case}"


@pytest.fixture(params=range(max(1, len(cpu.library.instruction_sets()))))
def instruction_set(request, monkeypatch):
    monkeypatch.setattr(cpu.library, "variant", request.param)
    return request.param


@pytest.mark.parametrize("group", range(4))
def test_random_shapes(instruction_set, group):
    for seed in range(30):
        check(1000 * instruction_set + 30 * group + seed)


FEW_SEEDS = [6, pytest.param(16, marks=pytest.mark.slow)]  # threads that wait take long


@pytest.mark.parametrize("seeds", FEW_SEEDS)
def test_few_rows_of_many_units(instruction_set, seeds):
    """Two threads divide the units and meet at every step."""
    for seed in range(seeds):
        check(100 * instruction_set + seed, few=True)


@pytest.mark.parametrize("seeds", FEW_SEEDS)
def test_a_single_row(instruction_set, seeds):
    """A second thread, if it is awake, computes what does not depend on time."""
    for seed in range(seeds):
        check(100 * instruction_set + seed, single=True)
        rested, *quick = one_by_one(Case(seed, single=True))
        for results in quick:
            for name, value in rested.items():
                assert torch.equal(value, results[name]), (seed, name)


def one_by_one(case):
    """Return the results of a call after a rest, and of calls in quick succession."""
    before = torch.get_num_threads()
    torch.set_num_threads(case.threads)
    try:
        time.sleep(0.005)
        return [case.compute("cpu", case.dtype) for _ in range(4)]
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(10))
def test_a_thousand_random_shapes(instruction_set, group):
    for seed in range(100):
        check(10_000 + 1000 * group + seed)


def test_the_cases_cover_every_kind():
    cases = [Case(seed) for seed in range(120)]
    assert {case.kind for case in cases} == set(CELLS)
    for name in ("reverse", "batch_first", "train", "packed"):
        assert len({getattr(case, name) for case in cases}) == 2
    assert any(case.resets is not None and case.lengths is not None for case in cases)


def test_every_instruction_set_has_a_name():
    names = cpu.library.instruction_sets()
    assert names[-1] in ("portable", "NEON")
    assert len(set(names)) == len(names)


def test_the_same_twice_to_the_last_bit(instruction_set):
    case = Case(7)
    first, second = (case.compute("cpu", case.dtype) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
