"""kapp NAME ...: the same as python -m kapp.recipes.NAME ..."""

import runpy
import sys
from pkgutil import iter_modules

from kapp import cli, recipes
from kapp.errors import unknown


def main() -> None:
    """Hand the rest of the command line to the recipe that its first word names."""
    names = sorted(m.name for m in iter_modules(recipes.__path__) if m.name not in ("settings", "__main__"))
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        with cli.exit_on_broken_pipe():
            print(f"usage: kapp RECIPE ...\n\nrecipes: {', '.join(names)}")
            print("kapp RECIPE --help lists its flags.")
        return
    if name not in names:
        print(f"kapp: {unknown('recipe', name, names)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    runpy.run_module(f"kapp.recipes.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
