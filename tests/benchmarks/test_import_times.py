import pytest
from test_benchmarks import rows_of

from benchmarks import imports

pytestmark = pytest.mark.slow


def test_times_of_an_import(capsys):
    imports.main(["--rounds", "2"])
    ((middle, fastest, slowest, modules, triton),) = rows_of(capsys.readouterr().out)
    assert 0 < float(fastest) <= float(middle) <= float(slowest)
    assert int(modules) > 20
    assert triton == "no"
