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
    """Each stream's inputs, labels and resets from the first window to the last."""
    windows = list(streams.epoch(number))
    assert len(windows) == len(streams)
    fields = [
        torch.cat(part).T.tolist()
        for part in zip(*((w.inputs, w.labels, w.resets) for w in windows))
    ]
    return zip(*fields)


@given(TEXTS, st.integers(1, 4), st.integers(1, 9), st.booleans())
def test_every_token_is_read_and_told_once(texts, batch_size, steps, shuffle):
    streams = streams_of(texts, batch_size=batch_size, steps=steps, shuffle=shuffle)
    read, told = [], []
    for inputs, labels, resets in columns_of(streams):
        assert resets == [token == END for token in inputs]
        counted = [label != IGNORED for label in labels]
        assert counted == sorted(counted, reverse=True)
        read += [token for token, there in zip(inputs, counted) if there]
        told += [label for label in labels if label != IGNORED]
    assert read[0] == END
    assert told == [*read[1:], END]
    found = []
    for token in read:
        if token == END:
            found.append([])
        else:
            found[-1].append(token)
    assert sorted(found) == sorted(texts)


@given(TEXTS, st.data())
def test_a_start_in_the_middle_gives_the_rest_of_the_epoch(texts, data):
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
def test_wrong_settings_are_refused(texts, settings, message):
    with pytest.raises(ValueError, match=message):
        streams_of(texts, **settings)


def test_start_outside_the_epoch_is_refused():
    with pytest.raises(ValueError, match="start between 0 and 1 windows"):
        streams_of([[1]]).epoch(0, 2)
