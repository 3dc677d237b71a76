"""The table of what kapp must reach on CPUs: ways of ours against ways of others."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import duel, results
from benchmarks.results import Line


@dataclass(frozen=True)
class Peer:
    """Others' ways to do the same work; the fastest is quoted, all are shown."""

    name: str
    whom: str
    commands: tuple[str, ...]
    reach: float  # how many times as fast ours should be


@dataclass(frozen=True)
class Row:
    """A duel of `ours`, of which the fastest is quoted and all are shown, and all peers."""

    name: str
    what: str
    ours: tuple[str, ...]  # commands
    peers: tuple[Peer, ...]

    @property
    def commands(self) -> dict[str, str]:
        """Each command's role: ours or a peer's name."""
        ours = dict.fromkeys(self.ours, "ours")
        return ours | {command: peer.name for peer in self.peers for command in peer.commands}

    @property
    def sides(self) -> int:
        return len(self.commands)

    def measure(self, turns: int, say: Callable[[str], object]) -> list[Line]:
        taken = duel.measure(list(self.commands), turns, say)
        return [line for its in taken for line in results.lines(self.name, self.commands[its.command], its)]


def on(backend: str, way: str) -> str:
    return f"KERAS_BACKEND={backend} python -m benchmarks.ways.{way}"


def fit(network: str, steps: int, *ways: tuple[str, str]) -> tuple[str, ...]:
    """kapp's training in the `ways`, each a backend and a precision. A turn should take 2 to 5 seconds."""
    return tuple(
        on(backend, f"kapp_fit {network} --precision {precision} --steps {steps}")
        for backend, precision in ways
    )


def by_hand(network: str, steps: int, reach: float) -> Peer:
    words = f"python -m benchmarks.ways.torch_loop {network} --steps {steps}"
    whom = "hand-written PyTorch, eager or compiled, bfloat16"
    return Peer("by_hand", whom, (words, f"{words} --compiled"), reach)


def distillation(precision: str, words: str, reach: float, **steps: int) -> Row:
    def each(way: str, **counts: int) -> tuple[str, ...]:
        settings = f"--precision {precision} --steps"
        return tuple(on(backend, f"{way} {settings} {count}") for backend, count in counts.items())

    # A narrow teacher fills the store in seconds: an epoch whose answers are stored has none in it.
    stored = each("kapp_distill --teacher-width 0.0625", **steps)
    labels = each("kapp_distill --teaching labels", **steps)
    theirs = each("keras_distillation", tensorflow=3, torch=2)
    return Row(
        f"distillation_{words}",
        f"deep_resnet into linear_3, an epoch whose answers are stored, {words}",
        stored,
        (
            Peer("keras_distiller", f"keras.distillation.Distiller, {words}", theirs, reach),
            Peer("labels", f"the same student on labels, {words}", labels, 0.9),
        ),
    )


PRECISIONS = ("float32", "mixed_bfloat16")
# Those that were the fastest of all six at one time or another, and the default's float32.
WAYS = (("tensorflow", "float32"), ("tensorflow", "mixed_bfloat16"), ("torch", "mixed_bfloat16"))

ROWS = (
    Row(
        "teacher_1",
        "teacher_1 training",
        fit("teacher_1", 8, *WAYS),
        (
            by_hand("teacher_1", 8, 1.25),
            Peer(
                "plain_fit",
                "plain Keras fit on TensorFlow, float32",
                (on("tensorflow", "keras_fit teacher_1 --precision float32 --steps 4"),),
                3.0,
            ),
        ),
    ),
    Row(
        "linear_3",
        "linear_3 training",
        fit("linear_3", 80, *WAYS, ("jax", "float32")),
        (by_hand("linear_3", 80, 1.25),),
    ),
    Row(
        "all_cnn_c",
        "all_cnn_c training",
        fit("all_cnn_c", 8, *WAYS),
        (by_hand("all_cnn_c", 8, 1.1),),
    ),
    distillation("mixed_bfloat16", "bfloat16", 8.0, tensorflow=40, torch=10),
    distillation("float32", "float32", 15.0, tensorflow=40, torch=20),
    Row(
        "filling",
        "deep_resnet's answers to an epoch's views, asked for and stored",
        tuple(on("tensorflow", f"kapp_filling --precision {precision}") for precision in PRECISIONS),
        (
            Peer(
                "forward_alone",
                "its forward passes alone, in bulk",
                tuple(
                    on("tensorflow", f"teacher_forward --precision {precision}") for precision in PRECISIONS
                ),
                0.9,
            ),
        ),
    ),
)
