"""A recurrent layer in float32, bfloat16 and int8: seqcells, torch.nn and onnxruntime.

All engines of a case have the same weights and inputs before these are rounded. bfloat16 modules
get inputs that are in bfloat16 already. `quantize`, torch.ao and onnxruntime get float32 inputs and
round them to int8 within the measured time.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized.dynamic.modules.rnn import RNNBase

import seqcells
from benchmarks.layers import LayerRun
from benchmarks.shapes import Shape

STEPS = 100
PEEPHOLE = "PeepholeLSTM"  # not in torch.nn; onnxruntime has it
OURS, THEIRS = "seqcells", "torch.nn"
FLOAT32, BFLOAT16, AUTOCAST = "float32", "bfloat16", "autocast"
QUANTIZED = "quantize(bfloat16)"
INT8 = "quantize(int8)"


class Case(NamedTuple):
    """A recurrence of 100 steps with as many inputs as units."""

    train: bool
    cell: str
    batch: int
    units: int

    @property
    def mode(self) -> str:
        return "training" if self.train else "inference"

    @property
    def shape(self) -> Shape:
        return Shape("", STEPS, self.batch, self.units, self.units)

    def __str__(self) -> str:
        return f"{self.cell}, {self.mode}, B={self.batch}, H={self.units}"


class Engine(Protocol):
    """A callable that computes a case. `size` is the number of bytes of its model."""

    size: int

    def __call__(self) -> Any: ...

    def results(self) -> dict[str, Tensor]:
        """Return outputs, and in training gradients: `LayerRun.results`."""


class LayerEngine(LayerRun):
    """A layer of seqcells or torch.nn.

    Autocast covers the forward pass only, as PyTorch advises.
    """

    def __init__(
        self,
        library: str,
        case: Case,
        dtype: torch.dtype = torch.float32,
        autocast: bool = False,
        backend: str = "auto",
        convert: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        super().__init__(library, case.cell, case.shape, case.train, dtype)
        if convert is not None:
            self.layer = convert(self.layer)
        self.contexts: list[Callable[[], Any]] = []
        if autocast:
            self.contexts.append(partial(torch.autocast, "cpu", torch.bfloat16))
        if backend != "auto":
            self.contexts.append(partial(seqcells.backend, backend))

    @property
    def size(self) -> int:
        return bytes_of(self.layer)

    def _forward(self) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        if not self.contexts:
            return super()._forward()
        with contextlib.ExitStack() as stack:
            for context in self.contexts:
                stack.enter_context(context())
            return super()._forward()


def bytes_of(layer: nn.Module) -> int:
    """Return the bytes of parameters and buffers, packed ones of torch.ao included."""
    tensors: Iterable[Tensor] = [*layer.parameters(), *layer.buffers()]
    if isinstance(layer, RNNBase):
        tensors = [*layer.get_weight().values(), *layer.get_bias().values()]
    return sum(tensor.nbytes for tensor in tensors)


def quantized_engine() -> str:
    """Return the engine of torch.ao: x86, the default of PyTorch, where it is supported."""
    supported = torch.backends.quantized.supported_engines
    return "x86" if "x86" in supported else supported[-1]


def quantize_torch(layer: nn.Module) -> nn.Module:
    """Quantize a layer with torch.ao: int8 weights, inputs quantized at each call."""
    torch.backends.quantized.engine = quantized_engine()
    with warnings.catch_warnings():
        for message in ("torch.ao.quantization is deprecated", "torch.quantize_per_tensor"):
            warnings.filterwarnings("ignore", message)
        return torch.ao.quantization.quantize_dynamic(
            nn.Sequential(layer), {type(layer)}, dtype=torch.qint8
        )[0]


class OnnxEngine:
    """The exported layer in onnxruntime, with NumPy arrays in and out."""

    def __init__(self, case: Case, int8: bool = False) -> None:
        import onnxruntime

        from seqcells.lab.export.stateful import to_stateful_onnx

        run = LayerRun(OURS, case.cell, case.shape, train=False)
        exported = to_stateful_onnx(run.layer)
        model = quantize_onnx(exported) if int8 else exported.SerializeToString()
        self.size = len(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        # Threads that spin after a call would slow the engine that runs next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        state = run()[1]
        parts = state if isinstance(state, tuple) else (state,)
        source, *names = (value.name for value in self.session.get_inputs())
        zeros = {name: torch.zeros_like(part).numpy() for name, part in zip(names, parts)}
        self.inputs = {source: run.inputs.numpy(), **zeros}

    def __call__(self) -> Any:
        return self.session.run(None, self.inputs)

    def results(self) -> dict[str, Tensor]:
        return {"outputs": torch.from_numpy(self()[0])}


def quantize_onnx(model: Any) -> bytes:
    """Quantize a model with onnxruntime: int8 weights, inputs quantized at each call."""
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as name:
        prepared, quantized = (Path(name, part) for part in ("prepared.onnx", "quantized.onnx"))
        quant_pre_process(model, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(prepared, quantized)
        return quantized.read_bytes()


Make = Callable[[Case], Engine]


def engine(library: str, **options: Any) -> Make:
    return lambda case: LayerEngine(library, case, **options)


def ours(**options: Any) -> Make:
    return engine(OURS, **options)


def quantized(dtype: torch.dtype) -> Make:
    return ours(convert=partial(seqcells.quantize, dtype=dtype))


def name_of(library: str, precision: str) -> str:
    return f"{library} {precision}"


PLAIN: dict[str, dict[str, Any]] = {
    FLOAT32: {},
    BFLOAT16: {"dtype": torch.bfloat16},
    AUTOCAST: {"autocast": True},
}
TORCH_INT8, ONNX, ONNX_INT8, LOOP = (
    "torch.ao int8",
    "onnxruntime float32",
    "onnxruntime int8",
    "loop",
)
# Our engines, each with the names of the engines to compare it with.
COUNTERPARTS: dict[str, tuple[str, ...]] = {
    name_of(OURS, FLOAT32): (name_of(THEIRS, FLOAT32), name_of(LOOP, FLOAT32), ONNX),
    name_of(OURS, BFLOAT16): (name_of(THEIRS, BFLOAT16), name_of(LOOP, BFLOAT16)),
    name_of(OURS, AUTOCAST): (name_of(THEIRS, AUTOCAST), name_of(LOOP, BFLOAT16)),
    name_of(OURS, QUANTIZED): (name_of(THEIRS, BFLOAT16), name_of(LOOP, BFLOAT16)),
    name_of(OURS, INT8): (TORCH_INT8, ONNX_INT8),
}


def engines_of(case: Case) -> dict[str, Make | None]:
    """Return the engines of a case by name; None if one does not quantize the cell."""
    chosen = (FLOAT32, AUTOCAST) if case.train else tuple(PLAIN)
    found: dict[str, Make | None] = {name_of(OURS, key): ours(**PLAIN[key]) for key in chosen}
    if not case.train:
        found[name_of(OURS, QUANTIZED)] = quantized(torch.bfloat16)
        found[name_of(OURS, INT8)] = quantized(torch.int8)
    in_torch = case.cell != PEEPHOLE
    if in_torch:
        found |= {name_of(THEIRS, key): engine(THEIRS, **PLAIN[key]) for key in chosen}
    else:
        for key in (FLOAT32, BFLOAT16):  # the readable loop ignores autocast
            found[name_of(LOOP, key)] = ours(backend="reference", **PLAIN[key])
    if not case.train:
        found[TORCH_INT8] = engine(THEIRS, convert=quantize_torch) if in_torch else None
        found[ONNX] = OnnxEngine
        found[ONNX_INT8] = partial(OnnxEngine, int8=True) if case.cell != "GRU" else None
    return found


def exact(case: Case) -> dict[str, Tensor]:
    """Return the results of our readable loop in float64."""
    return LayerEngine(OURS, case, dtype=torch.float64, backend="reference").results()
