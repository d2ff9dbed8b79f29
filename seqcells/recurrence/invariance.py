"""Results of a sequence that do not depend on the rest of the batch."""

from collections.abc import Iterator
from contextlib import contextmanager

from seqcells.kernels.cpu import library
from seqcells.recurrence.choice import backend


@contextmanager
def batch_invariant() -> Iterator[None]:
    """Compute each sequence with the same bits in any batch, in all threads, within the context.

    The outputs and final states of a sequence, and the gradients of its inputs and initial state,
    do not depend on the batch size, the position in the batch, the padding, the number of threads,
    or the calls among which its steps are divided. Gradients of parameters are sums over the batch.

    Every product then adds its terms in one order. Otherwise short calls add in an order that is
    faster for them, and results differ by rounding errors. It implies `backend("cpu")`.

    Raises:
        RuntimeError: the C++ kernels are not available. Calls that they do not support raise a
            RuntimeError with the reason.
    """
    loaded = library.library()
    if isinstance(loaded, str):
        raise RuntimeError(f"batch_invariant: expected C++ kernels, got none: {loaded}")
    with backend("cpu"):
        before = loaded.seqcells_set_path(library.PACKED)
        try:
            yield
        finally:
            loaded.seqcells_set_path(before)
