"""Random cases of a cell, its arguments and its mode, compared with the readable loop."""

import copy
import random
from contextlib import ExitStack

import torch
from torch import Tensor

import seqcells
from seqcells.state import flat_state, form_state, map_state
from tests.fuzz.cells import Random, random_cell

TOLERANCE, LARGE = 1e-7, 1e8
SINGLE_TOLERANCE = 1e-4  # in float32; more where the loop itself is less exact

# Relative frequency of each mode. Compiling and exporting take much longer than the others.
MODES = {"gradients": 80, "inference mode": 5, "vmap": 4, "func.grad": 3, "stack": 6}
MODES |= {"compile": 1, "export": 1}
DETERMINISTIC = ("vmap", "func.grad", "compile", "export")


def modified(draw, cell):
    """Return the cell, in some cases with a modifier around it, and the modifier's name."""
    kinds = ["Zoneout", "LearnedState"]
    kinds += ["VariationalDropout"] * (cell.weights().weight_hh is not None)
    kind = draw.choice([None] * 6 + kinds)
    if kind is None:
        return cell, ""
    share = () if kind == "LearnedState" else (0.3,)
    return getattr(seqcells, kind)(cell, *share), f"{kind} "


class Case:
    """A case, determined by its seed."""

    def __init__(self, seed):
        draw = self.draw = random.Random(seed)
        torch.manual_seed(seed)
        self.mode = draw.choices(list(MODES), list(MODES.values()))[0]
        self.dtype = torch.float32 if draw.random() < 0.1 else torch.float64
        T, B = draw.choice([0, 1, 2, 5, 9]), draw.choice([0, 1, 2, 3, 7, 17])
        features, units = draw.choice([1, 3, 8]), draw.choice([1, 2, 5, 16, 17])
        self.own, name = random_cell(draw, features, units, self.dtype)
        cell, around = modified(draw, self.own)
        self.recurrent = seqcells.Recurrent(cell, reverse=draw.random() < 0.3)
        training = draw.random() < 0.7 and self.mode not in DETERMINISTIC
        training = (
            training and self.dtype == torch.float64
        )  # masks would hide the error of the loop
        self.recurrent.train(training)
        if self.mode == "stack":
            other, _ = random_cell(draw, units, features, self.dtype)
            last, _ = random_cell(draw, features, features, self.dtype)
            cells = [self.recurrent.cell, (other, last) if features == units else other]
            self.stack = seqcells.Stack(cells, residual=draw.random() < 0.5).train(training)
        self.inputs = draw.choice([0.5, 2.0, 20.0]) * torch.randn(T, B, features, dtype=self.dtype)
        if draw.random() < 0.2:  # another layout
            self.inputs = self.inputs.transpose(0, 1).contiguous().transpose(0, 1)
        self.options = {}
        if draw.random() < 0.4:
            lengths = [draw.randint(0, T) for _ in range(B)]
            self.options["lengths"] = torch.tensor(lengths, dtype=torch.int64)
        if draw.random() < 0.3:
            self.options["resets"] = torch.rand(T, B) < 0.3
        if draw.random() < 0.2 and self.mode != "stack":
            self.options["all_states"] = True
        self.state = None
        if draw.random() < 0.5 and self.mode != "stack":
            self.state = map_state(torch.randn_like, cell.initial_state(B))
        self.needs_inputs = draw.random() < 0.8
        self.draws_noise = draw.random() < 0.3 and self.mode == "gradients"
        self.autocast = draw.random() < 0.1 and self.mode in ("gradients", "inference mode")
        self.words = (
            f"{self.mode}, {around}{name}, T={T} B={B} I={features} H={units}, {self.dtype}, "
            f"reverse={self.recurrent.reverse}, training={training}, autocast={self.autocast}, "
            f"noise given={self.draws_noise}, state given={self.state is not None}, {self.options}"
        )

    def differences(self) -> str:
        """Describe the first difference from the readable loop; "" if there is none."""
        for turn in range(3):
            if turn and isinstance(self.own, Random):
                self.own.change(self.draw)
            ours, loop = self.compute("auto", turn), self.compute("reference", turn)
            tolerance = self.tolerance(loop, turn)
            for number, (found, expected) in enumerate(zip(ours, loop, strict=True)):
                if differ(found, expected, tolerance):
                    where = f"turn {turn}, result {number} of {len(ours)}"
                    if found is None or expected is None or found.shape != expected.shape:
                        return f"{where}: expected {expected}, got {found}"
                    worst = (found - expected).abs().max().item()
                    return f"{where}: off by {worst:.1e} of {expected.abs().max().item():.1e}"
        return ""

    def tolerance(self, loop: list[Tensor | None], turn: int) -> float:
        """Return the tolerance for rounding: in float32 a multiple of the error of the loop."""
        if self.dtype == torch.float64:
            return TOLERANCE
        exact = copy.copy(self)
        exact.dtype, exact.autocast = torch.float64, False
        exact.recurrent = copy.deepcopy(self.recurrent).double()
        exact.inputs = self.inputs.double()
        if self.state is not None:
            exact.state = map_state(Tensor.double, self.state)
        if self.mode == "stack":
            exact.stack = copy.deepcopy(self.stack).double()
        error = 0.0
        for found, expected in zip(loop, exact.compute("reference", turn), strict=True):
            if found is not None and expected is not None and found.numel():
                largest = 1 + expected.abs().max().item()
                error = max(error, (found - expected).abs().max().item() / largest)
        return float("inf") if error > 1e-3 else max(SINGLE_TOLERANCE, 100 * error)

    def compute(self, backend: str, turn: int) -> list[Tensor | None]:
        """Return outputs, final states and gradients."""
        torch.manual_seed(turn)  # for the masks
        with ExitStack() as contexts:
            contexts.enter_context(seqcells.backend(backend))
            if self.autocast:
                contexts.enter_context(torch.autocast("cpu", torch.bfloat16))
            if self.mode == "inference mode":
                contexts.enter_context(torch.inference_mode())
                return self.run(self.recurrent, self.inputs, self.state)
            if self.mode == "vmap":
                return self.batched(backend)
            if self.mode == "func.grad":
                return self.functional(backend)
            if self.mode == "stack":
                return self.gradients(self.stack, turn)
            module = self.recurrent
            if backend == "auto" and self.mode == "compile":
                if turn == 0:
                    torch._dynamo.reset()
                    self.compiled = torch.compile(module, backend="eager", fullgraph=True)
                module = self.compiled
            if backend == "auto" and self.mode == "export":
                arguments = (self.inputs, self.state)
                with torch.no_grad():
                    exported = torch.export.export(module, arguments, self.options, strict=False)
                    found = self.run(exported.module(), self.inputs, self.state)
                # The eager results come last: exporting must not affect them.
                return [*found, *self.gradients(self.recurrent, turn)]
            if self.mode == "export":
                with torch.no_grad():
                    found = self.run(module, self.inputs, self.state)
                return [*found, *self.gradients(module, turn)]
            return self.gradients(module, turn)

    def run(self, module, inputs, state) -> list[Tensor]:
        outputs, final = module(inputs, state, **self.options)
        return leaves((outputs, final))

    def gradients(self, module, turn: int) -> list[Tensor | None]:
        module.zero_grad()
        inputs = self.inputs.clone().requires_grad_(self.needs_inputs)
        start, parts = None, []
        if self.state is not None:
            parts = [part.clone().requires_grad_() for part in flat_state(self.state)]
            start = form_state(self.state, parts)
        noise = {"noise": self.recurrent.noise(inputs, start)} if self.draws_noise else {}
        results = leaves(module(inputs, start, **self.options, **noise))
        total = weighted(results, turn)
        if total.requires_grad:
            total.backward()
        grads = [source.grad for source in (inputs, *parts, *module.parameters())]
        return [part.detach() for part in results] + grads

    def batched(self, backend: str) -> list[Tensor]:
        """Run three inputs by vmap, or one after another by the loop."""
        inputs = torch.stack([self.inputs, 0.5 * self.inputs, -self.inputs])
        with torch.no_grad():
            if backend == "auto":
                return list(
                    torch.func.vmap(lambda one: tuple(self.run(self.recurrent, one, self.state)))(
                        inputs
                    )
                )
            found = [self.run(self.recurrent, one, self.state) for one in inputs]
        return [torch.stack(parts) for parts in zip(*found)]

    def functional(self, backend: str) -> list[Tensor]:
        """Return the gradient by `torch.func`, or by autograd for the loop."""

        def total(inputs):
            results = self.run(self.recurrent, inputs, self.state)
            return weighted([*results, inputs], 0)

        if backend == "auto":
            return [torch.func.grad(total)(self.inputs)]
        inputs = self.inputs.clone().requires_grad_()
        return list(torch.autograd.grad(total(inputs), [inputs], materialize_grads=True))


def leaves(state) -> list[Tensor]:
    return (
        [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in leaves(part)]
    )


def weighted(results: list[Tensor], seed: int) -> Tensor:
    """Return a randomly weighted sum of all results."""
    weights = torch.Generator().manual_seed(seed)
    return sum(
        (part * torch.rand(part.shape, generator=weights).to(part)).sum() for part in results
    )


def differ(found: Tensor | None, expected: Tensor | None, tolerance: float) -> bool:
    if found is None or expected is None:
        one = expected if found is None else found
        return one is not None and bool(one.any())
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return True
    if not expected.numel():
        return False
    largest = expected.abs().max()
    if not largest <= LARGE:
        return False  # dominated by rounding
    return not bool(((found - expected).abs() <= tolerance * (1 + largest)).all())
