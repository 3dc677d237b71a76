"""A teacher's forward passes alone: `predict_on_batch` on images as they are, 500 at once, without XLA on
TensorFlow (which makes convolutions slower on CPUs) unless --xla, Keras's choice elsewhere.

    KERAS_BACKEND=tensorflow python -m benchmarks.ways.teacher_forward --precision float32
"""

import argparse

import keras

from benchmarks import images
from benchmarks.turns import serve
from kapp import models
from kapp.training import precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teacher", default="deep_resnet")
    parser.add_argument("--teacher-width", type=float, default=1.0)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "mixed_bfloat16"])
    parser.add_argument("--images", type=int, default=500, help="in a turn")
    parser.add_argument("--bulk", type=int, default=500, help="images at once")
    parser.add_argument("--xla", action="store_true")
    arguments = parser.parse_args()
    precision.use(arguments.precision)
    pictures, _ = images.arrays(arguments.images)
    teacher = models.build(arguments.teacher, width=arguments.teacher_width)
    plain = False if keras.backend.backend() == "tensorflow" else "auto"
    teacher.compile(jit_compile=arguments.xla or plain)
    bulks = [pictures[start : start + arguments.bulk] for start in range(0, len(pictures), arguments.bulk)]
    serve(lambda: [teacher.predict_on_batch(bulk) for bulk in bulks], len(pictures))


if __name__ == "__main__":
    main()
