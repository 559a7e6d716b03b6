"""The command line: one thin command per arrow of docs/architecture.md."""
