"""Print the catalogue, with each network's parameters and FLOPs counted from the built model.

python -m kapp.models              every network
python -m kapp.models linear_3     one of them, or a notation, layer by layer
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from kapp import cli, models
from kapp.errors import WrongValue
from kapp.models.catalogue import ENTRIES


@dataclass(frozen=True)
class Config:
    name: Annotated[str | None, tyro.conf.Positional] = None
    """A network, or a notation such as 512fc^2-10fc (default: list them all)."""
    width: float = 1.0
    classes: int = 10

    def check(self) -> None:
        if self.name is not None:
            models.find(self.name)
        if not self.width > 0 or self.classes < 2:
            raise WrongValue(f"width is {self.width}, classes {self.classes}: above 0, and at least 2.")


def main(config: Config) -> None:
    cli.start_keras()
    from kapp.models.networks import flops

    if config.name is not None:
        models.build(config.name, config.classes, config.width).summary(line_length=100)
        return
    for entry in ENTRIES:
        network = models.build(entry.name, config.classes, config.width)
        print(f"{entry.name}: {entry.paper_name} ({entry.source})")
        print(f"    {entry.printed or entry.notation}")
        if entry.printed:
            skip = ", skip over each two convolutions" if entry.residual else ""
            print(f"    built as {entry.notation}{skip}")
        print(
            f"    {network.count_params():,} parameters ({entry.reported_parameters} reported), "
            f"{(flops(network) or 0) / 1e6:,.0f} MFLOPs an image\n"
        )


if __name__ == "__main__":
    cli.run(Config, main)
