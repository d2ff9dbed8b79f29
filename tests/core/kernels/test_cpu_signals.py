"""Signals during a long kernel: Ctrl-C stops it, and later calls work."""

import signal
import time

import pytest
import torch
from parity import close

import seqcells
from seqcells import Recurrent
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)

# (threads, batch, hidden size): threads with rows of their own, that share units, in pairs.
DIVISIONS = {
    "one thread": (1, 4, 256),
    "rows": (2, 12, 256),
    "units": (2, 1, 384),
    "pairs": (2, 1, 96),
}


@pytest.fixture
def alarm():
    """Return a function that calls a handler of SIGALRM after some seconds."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(seconds, handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupt(*_):
    raise KeyboardInterrupt


def seconds_of(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def long_pass(direction, division):
    """Return a function that runs a forward or backward pass for at least 0.3 seconds."""
    _, batch, units = DIVISIONS[division]
    torch.manual_seed(0)
    recurrent = Recurrent(seqcells.LSTMCell(units, units))

    def pass_over(steps):
        inputs = torch.randn(steps, batch, units)
        if direction == "forward":
            return torch.no_grad()(lambda: recurrent(inputs)[0])
        total = recurrent(inputs)[0].sum()
        weight = recurrent.cell.weight_hh
        return lambda: torch.autograd.grad(total, weight, retain_graph=True)[0]

    # On a busy machine the time of a short pass does not scale: lengthen until it is long.
    steps = 500
    while (took := min(seconds_of(work) for work in [pass_over(steps)] * 2)) < 0.3:
        steps = int(steps * min(10, 0.4 / took))
    return pass_over(steps)


SLOW = pytest.mark.slow
QUICK = [("rows", "forward")]
OTHERS = [(name, way) for name in DIVISIONS for way in ("forward", "backward")]
OTHERS = [pytest.param(*case, marks=SLOW) for case in OTHERS if case not in QUICK]


@pytest.mark.parametrize(("division", "direction"), [*QUICK, *OTHERS])
def test_an_exception_from_a_handler_stops_the_kernel(division, direction, alarm, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: DIVISIONS[division][0])
    work = long_pass(direction, division)
    expected = work()
    full = min(seconds_of(work) for _ in range(2))

    def interrupted():
        alarm(0.02, interrupt)
        work()

    def raises():
        with pytest.raises(KeyboardInterrupt):  # on a busy machine the alarm precedes the call
            interrupted()

    assert seconds_of(raises) < 0.75 * full
    close(work(), expected)


def test_a_handler_that_raises_nothing_changes_nothing(alarm):
    work, seen = long_pass("forward", "rows"), []
    expected = work()
    alarm(0.05, lambda *_: seen.append(time.perf_counter()))
    found = work()
    ended = time.perf_counter()
    close(found, expected)
    assert seen
    assert seen[0] < ended - 0.05  # during the kernel, not after it
