"""A recurrent layer of torch.nn or seqcells on one batch, for timing, memory and errors."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqcells
from benchmarks.shapes import Shape

LIBRARIES = {"torch.nn": nn, "seqcells": seqcells}
SEED = 0


def zoneout_lstm(features: int, hidden: int) -> seqcells.Zoneout:
    return seqcells.Zoneout(seqcells.LSTMCell(features, hidden), 0.1)


# Recurrences that torch.nn does not have: our cells over time.
FURTHER = {
    "LayerNormLSTM": seqcells.LayerNormLSTMCell,
    "PeepholeLSTM": seqcells.PeepholeLSTMCell,
    "ZoneoutLSTM": zoneout_lstm,
}


def make_layer(library: str, cell: str, shape: Shape) -> nn.Module:
    if cell in FURTHER:
        return seqcells.Recurrent(FURTHER[cell](shape.features, shape.hidden))
    return getattr(LIBRARIES[library], cell)(
        shape.features,
        shape.hidden,
        num_layers=shape.layers,
        bidirectional=shape.bidirectional,
    )


class LayerRun:
    """One step of inference, or of training without an optimizer, per call.

    Weights, inputs and the gradient of the outputs are the same for both libraries. In training
    the inputs require a gradient too, as with an embedding below the layer.
    """

    def __init__(
        self,
        library: str,
        cell: str,
        shape: Shape,
        train: bool,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ):
        torch.manual_seed(SEED)
        self.train = train
        self.layer = make_layer(library, cell, shape).to(device, dtype).train(train)
        width = shape.hidden * shape.directions
        inputs = torch.randn(shape.steps, shape.batch, shape.features, device=device).to(dtype)
        gradient = torch.randn(shape.steps, shape.batch, width, device=device).to(dtype)
        self.packs = shape.given == "lengths" and library == "torch.nn"
        self.lengths = None
        if shape.lengths is not None:  # torch packs by lengths on the CPU
            own = shape.given == "lengths" and not self.packs
            self.lengths = torch.tensor(shape.lengths, device=device if own else "cpu")
        if shape.given == "packed":
            inputs, *places = self._pack(inputs)
        self.inputs = inputs.requires_grad_(train)
        self.given = PackedSequence(inputs, *places) if shape.given == "packed" else inputs
        self.is_packed = self.packs or shape.given == "packed"
        self.gradient = self._pack(gradient).data if self.is_packed else gradient

    def __call__(self) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Return the outputs, padded or packed, and the final state."""
        if not self.train:
            with torch.no_grad():
                return self._forward()
        self.inputs.grad = None
        self.layer.zero_grad()
        outputs, state = self._forward()
        outputs.backward(self.gradient)
        return outputs, state

    def results(self) -> dict[str, Tensor]:
        """Return outputs without padding, final states and gradients."""
        outputs, state = self()
        if self.lengths is not None and not self.is_packed:
            outputs = self._pack(outputs).data
        states = state if isinstance(state, tuple) else (state,)
        results = {"outputs": outputs} | dict(zip(("h_n", "c_n"), states))
        if self.train:
            results["grad inputs"] = self.inputs.grad
            for name, parameter in self.layer.named_parameters():
                results[f"grad {name}"] = parameter.grad
        return {name: tensor.detach() for name, tensor in results.items()}

    def _forward(self) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        if self.is_packed:
            outputs, state = self.layer(self._pack(self.given) if self.packs else self.given)
            return outputs.data, state
        if self.lengths is not None:
            return self.layer(self.given, lengths=self.lengths)
        return self.layer(self.given)

    def _pack(self, padded: Tensor) -> PackedSequence:
        return pack_padded_sequence(padded, self.lengths.cpu(), enforce_sorted=False)


def largest_error(run: LayerRun, exact: dict[str, Tensor]) -> float:
    """Return the largest difference in any result, relative to that result's largest value."""
    return max(
        ((result.double() - exact[name]).abs().max() / exact[name].abs().max()).item()
        for name, result in run.results().items()
    )
