"""The `pgfaucet` command: argument parsing and printing, one module for each subcommand."""
