"""The command line: train, run and serve reward models."""
