"""What the papers say, as data: settings and published figures, each with its table."""
