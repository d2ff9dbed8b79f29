import pytest
import torch
from test_benchmarks import rows_of

from benchmarks import vmap

pytestmark = pytest.mark.slow


def test_factors_of_a_cell(capsys):
    threads = torch.get_num_threads()
    try:
        vmap.main(["--rounds", "1", "--cells", "RNN", "--models", "2"])
    finally:
        torch.set_num_threads(threads)
    rows = rows_of(capsys.readouterr().out)
    modes = ["inference", "training", "per sample"]
    assert [row[:4] for row in rows] == [
        ["RNN", "2", batch, mode] for batch in ("1", "8") for mode in modes
    ]
    assert all(float(number) > 0 for row in rows for number in row[4:])
