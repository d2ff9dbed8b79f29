import pytest
import torch
from hypothesis import settings

import seqcells
from seqcells.kernels import cpu

# No deadlines, because the machine may be busy; the same examples in every run.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


# Cells whose kernels have no property that other cells do not have. Their equations are tested
# quickly; the tests of what surrounds a cell run them with the slow tests.
SIMILAR = (
    *("coupled_lstm", "indrnn_tanh", "lem", "light_lstm", "mgu", "mgu_reset_before", "ugrnn"),
)


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = getattr(item, "callspec", None) and item.callspec.params.values()
        kinds = {str(value).removeprefix("our_") for value in parameters or ()}
        folder = item.path.parent.name
        if folder not in ("cells", "equations") and not kinds.isdisjoint(SIMILAR):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["reference", "cpu"])
def each_backend(request):
    """Run the test on each backend by name: a call that the backend cannot run is an error."""
    if request.param == "cpu" and cpu.unavailable():
        pytest.skip("no native code on this machine")
    with seqcells.backend(request.param):
        yield


@pytest.fixture
def prefer_plan(monkeypatch):
    """Return a function that has Triton's kernels multiply in one way wherever it is possible."""
    from seqcells.kernels.triton import planning  # imports Triton

    plans = planning.plans

    def prefer(product):
        def preferred_first(*arguments):
            return iter(sorted(plans(*arguments), key=lambda plan: plan.product != product))

        monkeypatch.setattr(planning, "plans", preferred_first)

    return prefer


@pytest.fixture
def launched(monkeypatch):
    """Return the kernels that are launched, and the kind of each one's recurrent product."""
    from seqcells.kernels.triton import launch  # imports Triton

    seen, run = [], launch.launch

    def counted(kernel, *arguments, **constants):
        seen.append((kernel.fn.__name__, constants["PRODUCT"]))
        run(kernel, *arguments, **constants)

    monkeypatch.setattr(launch, "launch", counted)
    return seen


@pytest.fixture
def ran(monkeypatch):
    """Return the list of native calls: `"forward"` and `"backward"`."""
    found, run = [], cpu.library.run
    monkeypatch.setattr(cpu.library, "run", lambda way, p: found.append(way) or run(way, p))
    return found
