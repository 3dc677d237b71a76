"""Print the registry, with the parameters and FLOPs of each network, counted from the built model.

python -m kapp.models              every network
python -m kapp.models linear_3     one network, or a notation, layer by layer
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from kapp import cli, models
from kapp.errors import ConfigError
from kapp.models.registry import RESIDUAL, SPECS


@dataclass(frozen=True)
class Config:
    name: Annotated[str | None, tyro.conf.Positional] = None
    """A network, or a notation such as 512fc^2-10fc (default: list all networks)."""
    width: float = 1.0
    """Multiplies the filters and units of each layer."""
    classes: int = 10
    """The number of classes."""

    def check(self) -> None:
        if self.name is not None:
            models.get_spec(self.name)
        if not self.width > 0 or self.classes < 2:
            raise ConfigError(f"width is {self.width}, classes {self.classes}: above 0, and at least 2.")


def main(config: Config) -> None:
    cli.start_keras()
    from kapp.models.flops import count_flops

    if config.name is not None:
        models.build(config.name, config.classes, config.width).summary(line_length=100)
        return
    for spec in SPECS:
        model = models.build(spec.name, config.classes, config.width)
        print(f"{spec.name}: {spec.paper_name} ({spec.source})")
        print(f"    {spec.printed_notation or spec.notation}")
        if spec.printed_notation or spec.residual:
            print(f"    built as {RESIDUAL if spec.residual else ''}{spec.notation}")
        print(
            f"    {model.count_params():,} parameters ({spec.reported_parameters} reported), "
            f"{(count_flops(model) or 0) / 1e6:,.0f} MFLOPs an image\n"
        )


if __name__ == "__main__":
    cli.run(Config, main)
