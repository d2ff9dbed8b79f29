"""C code of models gives their results after every word or vector."""

import ctypes

import pytest
import torch
from c_code import COMPILERS, CORTEX, Net, assert_near, compile_files, self_test
from small_models import SMALL, WORDS, randomise
from torch import nn

import seqcells
from seqcells.kernels import cpu
from seqcells.lab.export.c import write_c
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models import TextClassifier
from seqcells.lab.models.language import LanguageModel
from seqcells.lab.models.sequences import SequenceReader, SequenceTagger
from seqcells.lab.models.translation import EncoderDecoder
from seqcells.lab.text.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")
EVERY_READOUT = ["last", "max", "mean", "attention"]
PAIRS = {"ngrams": 2, "ngram_buckets": 50}
STEPS, COUNT = 30, len(WORDS)


def classifier(**settings):
    return randomise(TextClassifier(ModelConfig(**(SMALL | settings)), COUNT))


def residual_classifier():
    model = classifier(readout=["last"])
    cells = [seqcells.GRUCell(5, 5), seqcells.LightLSTMCell(5, 4), seqcells.LSTMCell(4, 4)]
    model.recurrent = seqcells.Stack(cells, residual=True)
    return randomise(model)


def language_model(words=COUNT, **settings):
    return randomise(LanguageModel(ModelConfig(**(SMALL | settings)), words))


def tagger():
    return randomise(SequenceTagger(ModelConfig(**SMALL, **PAIRS), COUNT, tags=3))


def reader():
    config = ModelConfig(**SMALL, readout=["mean", "last"])
    return randomise(SequenceReader(config, input_size=2, outputs=3))


MODELS = {
    "all": lambda: classifier(readout=EVERY_READOUT, num_layers=2, **PAIRS),
    **{kind: lambda kind=kind: classifier(readout=[kind]) for kind in EVERY_READOUT},
    "two layers": lambda: classifier(cell="gru", num_layers=2),
    "quadruples": lambda: classifier(ngrams=4, ngram_buckets=7, readout=["attention", "max"]),
    "modifiers": lambda: classifier(
        cell="light_lstm", num_layers=2, modifiers={"zoneout": 0.1, "learned_state": True}
    ),
    "late gates": lambda: classifier(
        cell="multiplicative_lstm", num_layers=2, modifiers={"zoneout": 0.1, "learned_state": True}
    ),
    "residual": residual_classifier,
    "language": language_model,
    "language, pairs": lambda: language_model(cell="gru", **PAIRS),
    "adaptive softmax": lambda: language_model(words=10_300, hidden_size=16),
    "tagger": tagger,
    "reader": reader,
}
IN_FILES = ("all", "adaptive softmax")
QUICK = ("all", "language", "reader")


def model_words(model):
    return model.inputs.words.num_embeddings


@torch.no_grad()
def results(model, inputs):
    """Return the results `(T, O)` of the model for the inputs up to each step."""
    if isinstance(model, LanguageModel):
        (hidden,), _ = model(inputs.unsqueeze(1))
        hidden = hidden.squeeze(1)
        return (
            model.next.head(hidden)
            if isinstance(model.next.head, nn.Linear)
            else model.next(hidden)
        )
    rows = []
    for read in range(1, len(inputs) + 1):
        row = model(inputs[:read].unsqueeze(1), torch.tensor([read]))
        rows.append(row[-1].flatten() if isinstance(model, SequenceTagger) else row.flatten())
    return torch.stack(rows)


def inputs_of(model):
    torch.manual_seed(1)
    if isinstance(model, SequenceReader):
        return torch.randn(STEPS, 2)
    return torch.randint(model_words(model), (STEPS,), dtype=torch.int32)


def check(model, folder, embedded=True):
    """Compare all steps with the model, by `step` and, after a reset, by `run`."""
    write_c(model, folder, "net", embed_weights=embedded)
    net, inputs = Net(folder, embedded), inputs_of(model)
    words = inputs.dtype == torch.int32
    single = results(model, inputs.long() if words else inputs)
    exact = results(model.double(), inputs.long() if words else inputs.double())
    read = inputs.tolist() if words else inputs
    assert_near(torch.stack([net.step(input) for input in read]), exact, single)
    net.reset()
    assert_near(net.run(inputs), exact, single)
    return net


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
def test_c_equals_the_model(name, tmp_path):
    check(MODELS[name](), tmp_path, embedded=name not in IN_FILES)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_quantized_models(name, dtype, tmp_path):
    """The self-test has the results of the quantized model, with embeddings and head in float32."""
    model = MODELS[name]()
    write_c(seqcells.quantize(model, dtype), tmp_path, "net", embed_weights=name not in IN_FILES)
    compile_files(tmp_path, ["gcc", "-std=c99", "-O2", "-march=native"], "-lm", "-onet_test")
    self_test(tmp_path)
    write_c(model, tmp_path / "float", "net", embed_weights=name not in IN_FILES)
    for file in (tmp_path / "float").glob("net.[chb]*"):
        file.rename(tmp_path / file.name)
    compile_files(tmp_path, ["gcc", "-std=c99", "-O2"], "-lm", "-onet_test")
    with pytest.raises(AssertionError, match="failed"):
        self_test(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "name", ["all", "quadruples", "max", "residual", "language", "adaptive softmax", "reader"]
)
def test_every_compiler(name, compiler, tmp_path):
    model, embedded = MODELS[name](), compiler != "sanitizers" and name not in IN_FILES
    vocabulary = None if name in ("adaptive softmax", "reader") else Vocabulary(WORDS, [])
    write_c(model, tmp_path, "net", embed_weights=embedded, vocabulary=vocabulary)
    extra = [] if vocabulary is None else ["net_words.c"]
    compile_files(tmp_path, COMPILERS[compiler], *extra, "-lm", "-onet_test")
    self_test(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "quadruples", "language", "reader"])
def test_cortex(name, tmp_path):
    write_c(MODELS[name](), tmp_path, "net", block=16)
    compile_files(tmp_path, CORTEX, test=False)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [-80.0, 80.0])
def test_attention_with_large_scores(scale, tmp_path):
    """Scores are subtracted from the largest one, which may be the first or the last."""
    model = classifier(readout=["attention"])
    with torch.no_grad():
        model.readout.attention.weight.weight.fill_(scale)
        model.readout.attention.hidden.bias.add_(3)
    check(model, tmp_path)


@pytest.mark.slow
def test_negative_maxima(tmp_path):
    model = classifier(readout=["max"], cell="rnn")
    with torch.no_grad():
        model.recurrent.bias_ih_l0.fill_(-5)
    assert (model.recurrent(torch.randn(3, 1, 5))[0] < 0).all()
    check(model, tmp_path)


def test_numbers_out_of_range_are_the_unknown_word(tmp_path):
    write_c(classifier(**PAIRS), tmp_path, "net")
    net = Net(tmp_path)

    def read(*words):
        net.reset()
        return torch.stack([net.step(word) for word in words])

    expected = read(3, 1, 4)
    for word in (-1, COUNT, 2**31 - 1, -(2**31)):
        assert torch.equal(read(3, word, 4), expected)
    assert not torch.equal(read(3, 2, 4), expected)


ODD = [
    "<pad>",
    "<unk>",
    "good",
    "ÄÖ",
    "naïve",
    "日本",
    '"',
    "\\",
    "??=",
    "@_x",
    "%s",
    "\n",
    "'s",
    "a",
]


def test_words_of_the_vocabulary(tmp_path):
    vocabulary = Vocabulary(ODD, [])
    model = randomise(TextClassifier(ModelConfig(**SMALL), len(ODD)))
    paths = write_c(model, tmp_path, "net", vocabulary=vocabulary)
    files = ["net.h", "net.c", "net_test.c", "net_words.h", "net_words.c"]
    assert [path.name for path in paths] == files
    net = Net(tmp_path, extra=["net_words.c"])
    number, word = net.function("number"), net.function("word")
    word.restype = ctypes.c_char_p
    for text in [*ODD, "", "goo", "goods", "zzz", "日"]:
        assert number(text.encode()) == vocabulary.number(text)
    assert [word(n).decode() for n in range(len(ODD))] == ODD
    assert word(-1) is word(len(ODD)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"module": classifier(bidirectional=True)},
            "got a bidirectional one.* train with model.b",
        ),
        ({"module": classifier(bidirectional=True, cell="mgu")}, "expected a unidirectional model"),
        ({"module": classifier().train()}, r"call \.eval\(\)"),
        ({"module": classifier().double()}, r"float32.* call \.float\(\)"),
        ({"head": nn.Linear(4, 2)}, "head: expected None for a TextClassifier, which has a"),
        ({"vocabulary": Vocabulary(ODD, [])}, "vocabulary: expected the 30 words .* got 14 words"),
        (
            {"module": seqcells.GRUCell(2, 3), "vocabulary": Vocabulary(ODD, [])},
            "vocabulary: expected None without words, got 14 words",
        ),
    ],
)
def test_invalid_arguments(change, message, tmp_path):
    arguments = {"module": classifier(), **change}
    with pytest.raises(ValueError, match=message):
        write_c(arguments.pop("module"), tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_models_that_need_all_words_are_refused(tmp_path):
    model = EncoderDecoder(ModelConfig(**SMALL), 9).eval()
    with pytest.raises(TypeError, match="expected a recurrent module, got EncoderDecoder"):
        write_c(model, tmp_path / "new")
