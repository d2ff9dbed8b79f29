"""The benchmark of the adapters prints its table, at tiny sizes. Times are not judged."""

import pytest

for library in ("gymnasium", "opacus", "sb3_contrib", "torchrl"):
    pytest.importorskip(library)

from benchmarks import adapters  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
]


def test_the_table_has_a_row_per_case(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.timing.SHORTEST", 1e-6)
    small = [
        lambda: adapters.policies(2, 32, 8),
        lambda: adapters.rollouts("GRU", 2, 5, 4),
        lambda: adapters.per_sample("LSTM", 3, 4, 5, 6),
    ]
    monkeypatch.setattr(adapters, "cases", lambda: iter(small))
    adapters.main(["--rounds", "1"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [row[1].strip() for row in rows[2:]] == ["sb3-contrib", "TorchRL", "Opacus"]
    assert all(0 < float(row[-2]) < 1e-4 for row in rows[2:])
    adapters.main(["--rounds", "1", "--only", "torchrl"])
    assert "Opacus" not in capsys.readouterr().out
