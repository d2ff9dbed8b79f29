import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqcells.lab.text import BucketedBatches, truncate
from seqcells.lab.text.batches import IGNORED

EXAMPLES = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=20), max_size=60)


def labels_of(examples):
    return [len(example) % 2 for example in examples]


def batches_of(examples, **settings):
    settings = {"batch_size": 4, "seed": 3} | settings
    return BucketedBatches(examples, labels_of(examples), **settings)


def as_lists(batches):
    return [[field.tolist() for field in batch[:4]] for batch in batches]


@given(EXAMPLES, st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_epoch_has_every_example_once(examples, batch_size, shuffle, number):
    batches = batches_of(examples, batch_size=batch_size, shuffle=shuffle)
    seen = []
    epoch = list(batches.epoch(number))
    assert len(epoch) == len(batches)
    for batch in epoch:
        assert 1 <= len(batch.indices) <= batch_size
        assert batch.inputs.shape == (batch.lengths.max(), len(batch.indices))
        for column, (index, length) in enumerate(zip(batch.indices, batch.lengths)):
            assert batch.inputs[:length, column].tolist() == examples[index]
            assert not batch.inputs[length:, column].any()
        assert batch.labels.tolist() == [labels_of(examples)[i] for i in batch.indices]
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(len(examples)))


@given(EXAMPLES, st.integers(0, 3), st.data())
def test_epoch_with_start_skips_batches(examples, number, data):
    batches = batches_of(examples)
    start = data.draw(st.integers(0, len(batches)))
    rest = list(batches.epoch(number))[start:]
    assert as_lists(batches_of(examples).epoch(number, start)) == as_lists(rest)


def test_tensors_are_int64():
    batch = next(batches_of([[1, 2], [3]]).epoch(0))
    assert (batch.inputs.dtype, batch.lengths.dtype) == (torch.int64, torch.int64)
    assert (batch.labels.dtype, batch.indices.dtype) == (torch.int64, torch.int64)


@given(EXAMPLES, st.integers(1, 3))
def test_parts_partition_a_batch(examples, parts):
    labels = [[token + 1 for token in example] for example in examples]
    for batch in BucketedBatches(examples, labels, batch_size=5, seed=3).epoch(0):
        seen = []
        for number in range(parts):
            part = batch.part(number, parts)
            seen += part.indices.tolist()
            for column, index in enumerate(part.indices.tolist()):
                length = part.lengths[column]
                assert part.inputs[:length, column].tolist() == examples[index]
                assert part.labels[:length, column].tolist() == labels[index]
                assert (part.labels[length:, column] == IGNORED).all()
        assert sorted(seen) == sorted(batch.indices.tolist())


def test_order_depends_on_seed_and_epoch():
    examples = [[1] * (1 + i % 7) for i in range(300)]
    orders = [
        [batch.indices.tolist() for batch in batches_of(examples, seed=seed).epoch(number)]
        for seed, number in ((3, 0), (3, 1), (4, 0), (3, 0))
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert orders[1] != orders[2]


def test_batches_are_not_ordered_by_length():
    examples = [[1] * (1 + i) for i in range(200)]
    longest = [int(batch.lengths.max()) for batch in batches_of(examples).epoch(0)]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_longest_examples_come_first_without_shuffle():
    examples = [[1] * (1 + i * 37 % 101) for i in range(100)]
    batches = batches_of(examples, shuffle=False)
    lengths = [length for batch in batches.epoch(0) for length in batch.lengths.tolist()]
    assert lengths == sorted(map(len, examples), reverse=True)
    assert as_lists(batches.epoch(0)) == as_lists(batches.epoch(1))


@pytest.mark.parametrize(("batch_size", "longest"), [(32, 400), (64, 10_000)])
def test_padding_share_is_small_for_lengths_of_imdb(batch_size, longest):
    rng = random.Random(0)
    lengths = [min(longest, max(10, int(rng.lognormvariate(5.4, 0.65)))) for _ in range(20_000)]
    batches = batches_of([[1] * length for length in lengths], batch_size=batch_size)
    assert batches.padding_share(0) < 0.1


def test_padding_share_matches_batches():
    rng = random.Random(0)
    batches = batches_of([[1] * rng.randint(1, 60) for _ in range(99)], batch_size=7)
    epoch = list(batches.epoch(5))
    tokens = sum(int(batch.lengths.sum()) for batch in epoch)
    positions = sum(batch.inputs.numel() for batch in epoch)
    assert batches.padding_share(5) == pytest.approx(1 - tokens / positions)
    assert batches_of([]).padding_share(0) == 0


@given(
    st.lists(st.integers(), max_size=12),
    st.integers(1, 12),
    st.sampled_from(["head", "tail", "head_tail"]),
)
def test_truncate_keeps_head_and_tail(tokens, max_tokens, keep):
    truncated = truncate(tokens, max_tokens, keep)
    size = len(truncated)
    assert size == min(max_tokens, len(tokens))
    head = {"head": size, "tail": 0, "head_tail": -(-size // 2)}[keep]
    assert truncated == tokens[:head] + tokens[len(tokens) - size + head :]


def test_truncate_examples():
    tokens = [1, 2, 3, 4, 5, 6]
    assert truncate(tokens, 3, "head") == [1, 2, 3]
    assert truncate(tokens, 3, "tail") == [4, 5, 6]
    assert truncate(tokens, 3, "head_tail") == [1, 2, 6]
    assert truncate(tokens, 1, "head_tail") == [1]
    assert truncate(tokens, 6, "tail") == tokens


@pytest.mark.parametrize(
    ("examples", "labels", "settings", "message"),
    [
        ([[1], []], [0, 1], {}, "got an empty example at index 1"),
        ([[1], [2]], [0], {}, "expected 2 labels.*got 1"),
        ([[1], [2]], [0, None], {}, "a number or a sequence as label, got None at index 1"),
        ([[1], [2]], [0, 1], {"batch_size": 0}, "batch_size of at least 1, got 0"),
    ],
)
def test_invalid_arguments_raise(examples, labels, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        BucketedBatches(examples, labels, **({"batch_size": 2, "seed": 0} | settings))


@pytest.mark.parametrize("start", [-1, 3])
def test_invalid_start_raises(start):
    with pytest.raises(ValueError, match=r"start between 0 and 2 batches"):
        batches_of([[1]] * 8).epoch(0, start)


def test_truncate_with_invalid_arguments_raises():
    with pytest.raises(ValueError, match="max_tokens of at least 1, got 0"):
        truncate([1], 0, "head")
    with pytest.raises(ValueError, match="got 'middle'"):
        truncate([1], 2, "middle")
