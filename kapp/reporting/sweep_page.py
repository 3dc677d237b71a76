def sweep_page(sweep):
    return "todo\n"
