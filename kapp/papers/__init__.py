"""The papers' settings and published figures, as data, each with its table."""
