import math
import re
from pathlib import Path

import pytest

from seqcells.lab.training import Config, command, load_config, parse, settings
from seqcells.lab.training.config import TASK_NAMES
from seqcells.lab.training.parsing import save_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def yaml_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("model: {cell: gru}\ntraining: {learning_rate: 1e-4, batch_size: 7}\n")
    return path


def test_command_line_overrides_file_and_defaults(yaml_file):
    for argv in (
        [str(yaml_file), "--training.batch_size", "9", "--training.clip_norm", "null"],
        ["--training.batch_size", "9", "--training.clip_norm=null", str(yaml_file)],
    ):
        config, file, resume = parse(argv)
        assert (file, resume) == (str(yaml_file), None)
        assert config.model.cell == "gru"
        assert config.training.learning_rate == 1e-4
        assert config.training.batch_size == 9
        assert config.training.clip_norm is None
        assert config.data == Config().data


def test_saved_configuration_round_trips(tmp_path):
    options = ["--data.source=imdb", "--data.path=x y", "--training.clip_value=0.5"]
    options += ["--model.modifiers", "{zoneout: [0.05, 0.5], learned_state: true}"]
    config, *_ = parse([*options, "--model.modifiers.drop_connect", "0.2"])
    assert list(config.model.modifiers) == ["zoneout", "learned_state", "drop_connect"]
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("option", "key"),
    [
        (["--training.batchsize", "3"], "training.batchsize"),
        (["--modle.cell", "gru"], "modle.cell"),
        (["--training.batch_size", "many"], "training.batch_size"),
        (["--training.batch_size", "2.5"], "training.batch_size"),
        (["--training.batch_size", "0"], "training.batch_size"),
        (["--training.learning_rate", "-1"], "training.learning_rate"),
        (["--training.learning_rate", "nan"], "training.learning_rate"),
        (["--training.clip_norm", "0"], "training.clip_norm"),
        (["--training.clip_value", "-0.1"], "training.clip_value"),
        (["--training.warmup", "1"], "training.warmup"),
        (["--training.threads", "0"], "training.threads"),
        (["--training.label_smoothing", "1"], "training.label_smoothing"),
        (["--training.average", "1.0"], "training.average"),
        (["--training.adversarial", "-1"], "training.adversarial"),
        (["--training.adversarial=1", "--model.kind=words"], "training.adversarial"),
        (["--training.start_from=x", "--task=language"], "training.start_from"),
        (["--training.start_from=x", "--data.vectors=y"], "training.start_from"),
        (["--data.unlabelled=true"], "data.unlabelled"),
        (["--data.source=imdb", "--data.unlabelled=true"], "data.unlabelled"),
        (["--task=capitals", "--data.vectors=counted"], "data.vectors"),
        (["--training.teachers=[x]"], "training.teachers"),
        (["--data.steps=0"], "data.steps"),
        (["--task=language", "--model.backend=torch"], "model.backend"),
        (["--task=language", "--model.kind=words"], "model.kind"),
        (["--task=language", "--model.ngrams=2"], "model.ngrams"),
        (
            ["--task=language", "--model.num_layers=2", "--model.bidirectional=true"],
            "model.num_layers",
        ),
        (["--task=dates", "--model.bidirectional=true"], "model.bidirectional"),
        (["--task=adding", "--training.label_smoothing=0.1"], "training.label_smoothing"),
        (["--task=dates", "--data.examples=80000"], "data.examples"),
        (["--training.accumulate=0"], "training.accumulate"),
        (["--training.precision=float8"], "training.precision"),
        (["--training.device=gpu"], "training.device"),
        (["--task=sums"], "task"),
        (["--training.seed", "-1"], "training.seed"),
        (["--training.decay", "steps"], "training.decay"),
        (["--model.cell", "transformer"], "model.cell"),
        (["--model.hidden_size", "0"], "model.hidden_size"),
        (["--model.num_layers", "0"], "model.num_layers"),
        (["--model.readout", "[]"], "model.readout"),
        (["--model.readout", "[max,max]"], "model.readout"),
        (["--model.readout", "[most]"], "model.readout"),
        (["--model.ngrams", "0"], "model.ngrams"),
        (["--model.kind=words", "--model.ngrams=2"], "model.ngrams"),
        (["--model.dropout", "1.5"], "model.dropout"),
        (["--model.embedding_dropout", "-0.1"], "model.embedding_dropout"),
        (["--model.cell=gru", "--model.forget_bias=1"], "model.forget_bias"),
        (["--model.cell=rhn", "--model.forget_bias=1"], "model.forget_bias"),
        (["--model.cell=mgu", "--model.backend=torch"], "model.backend"),
        (["--model.modifiers.zoneout=0.1", "--model.backend=torch"], "model.backend"),
        (["--model.cell=min_gru", "--model.recurrent_init=orthogonal"], "model.recurrent_init"),
        (["--model.modifiers", "0.1"], "model.modifiers"),
        (["--model.modifiers.zonout", "0.1"], "model.modifiers"),
        (["--model.modifiers.zoneout", "1.5"], "model.modifiers"),
        (["--model.modifiers.zoneout", "much"], "model.modifiers"),
        (["--model.modifiers.zoneout", "true"], "model.modifiers.zoneout"),
        (["--model.modifiers.learned_state", "0.5"], "model.modifiers.learned_state"),
        (["--model.modifiers.drop_connect", "[0.1, 0.2]"], "model.modifiers"),
        (["--model.cell=rnn", "--model.modifiers.recurrent_dropout=0.1"], "model.modifiers"),
        (["--model.bidirectional", "perhaps"], "model.bidirectional"),
        (["--data.source", "reuters"], "data.source"),
        (["--data.max_tokens", "0"], "data.max_tokens"),
        (["--data.validation_share", "1"], "data.validation_share"),
        (["--data.path", "somewhere"], "data.path"),
        (["--run", "a", "--resume", "b"], "config.yaml"),
    ],
)
def test_invalid_option_error_names_its_key(option, key, capfd):
    assert command(parse, option) == 2
    output, error = capfd.readouterr()
    assert output == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert key in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {sell: gru}", ":1: expected a setting, got model.sell; did you mean model.cell?"),
        ("task: dates\nmodle:\n  cell: gru", ":2: expected a setting, got modle"),
        ("extra: 1", ":1: expected a setting, got extra"),
        ("training: {epochs: 1.5}", ": training.epochs: expected a whole number, got 1.5"),
        ("training: {epochs: 0}", "training.epochs: expected a whole number of at least 1, got 0"),
        ("model: {cell: true}", ": model.cell: expected one of rnn, gru, lstm,"),
        ("data: 3", ":1: expected a mapping of settings below data"),
        ("data:", ":1: expected a mapping of settings below data"),
        ("model: [", "expected valid YAML, got FILE:1: "),
        ("task: a: b", "expected valid YAML, got FILE:1: mapping values are not allowed"),
        ("- a\n- b", "expected a mapping of settings in FILE"),
        ("", "expected settings in FILE, which has none"),
        ("# task: dates", "expected settings in FILE, which has none"),
        ("training:\n  seed: 1\n  epochs: 2\n  seed: 3", ":4: expected training.seed once"),
        (b"\xff\xfe\x00", "expected a YAML file in UTF-8, got FILE, which is not text"),
        (b"task: \x00", "expected valid YAML, got FILE: special characters are not allowed"),
    ],
)
def test_invalid_file_error_names_file_and_line(content, message, tmp_path, capfd):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert command(parse, [str(path)]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    expected = message.replace("FILE", str(path))
    assert (f"{path}{expected}" if expected.startswith(":") else expected) in error
    check_plain(error)


def check_plain(error):
    """Check that a message does not name Python's types."""
    for internal in ("<class", "typing", "Literal", "Union", "NoneType", "<unicode", "Parser key"):
        assert internal not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--model.cel gru",
            "expected an option of train.py, got --model.cel; did you mean --model",
        ),
        ("--model.cel=gru", "got --model.cel; did you mean --model.cell?"),
        ("--seed 1", "got --seed; did you mean --training.seed?"),
        ("--resum runs/x", "got --resum; did you mean --resume?"),
        ("a.yaml b.yaml", "expected one configuration file, got another argument: b.yaml"),
        ("--model.cell gruu", "got gruu; did you mean gru?"),
        ("--model.cell=", "expected one of rnn, gru, lstm, layer_norm_lstm, "),
        ("--model 3", "model: expected a mapping of settings, or a setting as in --model.NAME"),
        ("--model.readout most", "model.readout: expected a list of: last, max, mean, attention"),
        ("--model.readout [most]", "model.readout: expected a list of: last, max, mean, attention"),
        ("--model.modifiers.zoneout x", "model.modifiers: expected a mapping of names to a number"),
        ("--model.bidirectional perhaps", "expected true or false, got perhaps"),
        ("--training.clip_norm x", "training.clip_norm: expected a number or null, got x"),
        ("--training.seed 18446744073709551616", "a whole number from 0 to 2**63 - 1"),
        ("--training.teachers 3", "training.teachers: expected a list, got 3"),
    ],
)
def test_invalid_option_error_is_plain(options, message, capfd):
    assert command(parse, options.split()) == 2
    error = capfd.readouterr().err
    assert message in error
    check_plain(error)


def test_every_setting_has_a_type_in_plain_words():
    assert set(settings.TYPES) >= {"task", "run", "data.path", "model.cell", "training.seed"}
    for key, kind in settings.TYPES.items():
        assert settings.describe(kind).startswith(("a ", "one of ", "true or false")), key


def test_too_many_threads_raise_before_a_folder_is_created(train_main, tmp_path, capfd):
    folder = tmp_path / "run"
    assert command(train_main, ["--training.threads=100000", "--run", str(folder)]) == 2
    assert re.search(
        r"training.threads: expected at most \d+ on this machine, which has \d+ cores, got 100000",
        capfd.readouterr().err,
    )
    assert not folder.exists()


def test_missing_file_error_names_it(capfd):
    assert command(parse, ["no/such.yaml"]) == 2
    assert "no/such.yaml, which does not exist" in capfd.readouterr().err


def test_folder_in_place_of_a_file_raises(tmp_path, capfd):
    assert command(parse, [str(tmp_path)]) == 2
    assert f"expected a YAML file, got {tmp_path}, which is a folder" in capfd.readouterr().err


def test_help_describes_every_setting(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "CONFIG" in text
    assert "maximum number of words" in text
    assert "clip every element of the gradient" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_included_configuration(path):
    config = load_config(path)
    assert math.isfinite(config.training.learning_rate)
    reads_reviews = config.task in ("sentiment", "capitals", "language")
    assert path.stem.startswith(config.data.source if reads_reviews else config.task)
    assert f"configs/{path.name}" in path.read_text().splitlines()[0]


def test_included_configurations_are_complete():
    corpus = {"corpus_lstm", "corpus_gru", "corpus_rnn", "corpus_words", "corpus_window"}
    imdb = {"imdb_lstm", "imdb_gru", "imdb_rnn"}
    tasks = {"adding", "copying", "digits", "dates", "corpus_capitals", "corpus_characters"}
    assert {path.stem for path in CONFIGS} >= corpus | imdb | tasks
    assert {load_config(path).task for path in CONFIGS} == set(TASK_NAMES)
