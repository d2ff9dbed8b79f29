"""Train a recurrent network: settings, data, model, loop, report.

python train.py configs/corpus_lstm.yaml
python train.py configs/imdb_lstm.yaml --data.path aclImdb_v1.tar.gz --training.seed 1
python train.py --resume runs/NAME
torchrun --nproc-per-node 2 train.py configs/imdb_lstm.yaml

`seqcells/lab/training/session.py` has the steps of a training run.
"""

import sys
from collections.abc import Sequence

from seqcells.lab.extras import packages_required

with packages_required():
    from seqcells.lab.training import Run, command, conclude, device_of, parse, processes, train
    from seqcells.lab.training.runs import name_of


def main(argv: Sequence[str]) -> None:
    # Settings: a YAML file with command-line overrides. A run is a folder.
    config, file, resumed = parse(argv)
    with processes.process_group(device_of(config.training)):
        name = name_of(file or config.task)
        run = Run.resume(resumed, config) if resumed else Run.create(config, name)
        result = train(run, resumed=resumed is not None)
        if processes.is_main():
            print(conclude(run, result))


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
