"""kapp's training on labels, as its recipe `train` sets it up: the optimiser and the views of the network's
paper, the images resident, an epoch of index batches a turn.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.kapp_fit teacher_1 --precision auto
"""

import argparse

from benchmarks import images
from benchmarks.turns import serve
from kapp import cli
from kapp.recipes import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", help="of the catalogue, or a notation")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "mixed_bfloat16"])
    parser.add_argument("--batch", type=int, default=images.BATCH)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=images.COUNT, help="resident")
    parser.add_argument("--steps", type=int, default=20, help="in a turn; 0: a whole epoch of the images")
    arguments = parser.parse_args()
    config = train.Config(
        model=arguments.network, batch_size=arguments.batch, width=arguments.width
    ).resolved()
    cli.start_keras()
    from kapp.data import feeds
    from kapp.training import Learner, optimizers, precision

    precision.use(arguments.precision)
    dataset = images.dataset(arguments.images)
    in_epoch = len(dataset.train) // arguments.batch
    steps = arguments.steps or in_epoch
    learner = Learner(config.build(config.model, dataset), dataset, config.views)
    learner.compile(optimizers.make(config.training, epochs=config.epochs or 1, steps_per_epoch=in_epoch))
    feed = feeds.training(dataset.train.samples, arguments.batch, seed=0, views=config.views)

    def turn(steps: int) -> None:
        learner.fit(feed, steps_per_epoch=steps, shuffle=False, verbose=0)

    serve(lambda: turn(steps), steps * arguments.batch, wake=lambda: turn(1))


if __name__ == "__main__":
    main()
