import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqcells.lab.text.batches import IGNORED
from seqcells.lab.text.streams import END, TextStreams

TEXTS = st.lists(st.lists(st.integers(1, 50), max_size=12), min_size=1, max_size=20)


def streams_of(texts, **settings):
    return TextStreams(texts, **({"batch_size": 3, "steps": 4, "seed": 3} | settings))


def as_lists(windows):
    return [[part.tolist() for part in window] for window in windows]


def columns_of(streams, number=0):
    """Return the inputs, labels and resets of each stream over all windows."""
    windows = list(streams.epoch(number))
    assert len(windows) == len(streams)
    fields = [
        torch.cat(part).T.tolist()
        for part in zip(*((w.inputs, w.labels, w.resets) for w in windows))
    ]
    return zip(*fields)


@given(TEXTS, st.integers(1, 4), st.integers(1, 9), st.booleans())
def test_every_token_is_an_input_and_a_label_once(texts, batch_size, steps, shuffle):
    streams = streams_of(texts, batch_size=batch_size, steps=steps, shuffle=shuffle)
    tokens, targets = [], []
    for inputs, labels, resets in columns_of(streams):
        assert resets == [token == END for token in inputs]
        counted = [label != IGNORED for label in labels]
        assert counted == sorted(counted, reverse=True)
        tokens += [token for token, valid in zip(inputs, counted) if valid]
        targets += [label for label in labels if label != IGNORED]
    assert tokens[0] == END
    assert targets == [*tokens[1:], END]
    split = []
    for token in tokens:
        if token == END:
            split.append([])
        else:
            split[-1].append(token)
    assert sorted(split) == sorted(texts)


@given(TEXTS, st.data())
def test_epoch_with_start_skips_windows(texts, data):
    streams = streams_of(texts)
    start = data.draw(st.integers(0, len(streams)))
    rest = [[part.tolist() for part in window] for window in streams.epoch(2)][start:]
    assert [
        [part.tolist() for part in window] for window in streams_of(texts).epoch(2, start)
    ] == rest


def test_order_depends_on_seed_and_epoch():
    texts = [[n] for n in range(1, 40)]
    orders = [
        next(streams_of(texts, steps=99, seed=seed).epoch(number)).inputs.tolist()
        for seed, number in ((3, 0), (3, 1), (4, 0), (3, 0))
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    fixed = streams_of(texts, shuffle=False)
    assert list(columns_of(fixed, 0)) == list(columns_of(fixed, 1))


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ([], {}, "at least one text, got none"),
        ([[1]], {"steps": 0}, "steps of at least 1, got 3 and 0"),
        ([[1]], {"batch_size": 0}, "batch_size and steps of at least 1, got 0"),
    ],
)
def test_invalid_arguments_raise(texts, settings, message):
    with pytest.raises(ValueError, match=message):
        streams_of(texts, **settings)


def test_invalid_start_raises():
    with pytest.raises(ValueError, match="start between 0 and 1 windows"):
        streams_of([[1]]).epoch(0, 2)
