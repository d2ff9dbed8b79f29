import pytest
import torch
from test_benchmarks import rows_of

from benchmarks import invariance

pytestmark = pytest.mark.slow


def test_a_row_of_ratios(capsys):
    threads = torch.get_num_threads()
    invariance.main(["--rounds", "1", "--threads", str(threads), "--only", "rnn,H=64,T=1,B=4"])
    ((layer, *ratios),) = rows_of(capsys.readouterr().out)
    assert layer == "RNN, H=64, T=1, B=4"
    assert all(float(ratio) > 0 for ratio in ratios)


def test_only_takes_known_words(capsys):
    with pytest.raises(SystemExit):
        invariance.main(["--only", "H=7"])
    assert "--only: expected words out of rnn, gru, lstm, H=64" in capsys.readouterr().err
