"""One command a module: python -m kapp.recipes.NAME, or kapp NAME."""
