"""Reports: tables, figures and Markdown, made from the files of runs, sweeps and evaluations."""
