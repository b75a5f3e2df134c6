"""One file per command: `run(arguments) -> exit status` and `usage(arguments) -> text`."""
