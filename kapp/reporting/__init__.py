"""From run folders to scores, tables, figures and pages; reads files, knows nothing of Keras."""
