"""Shared by all packages: errors, bounded and atomic files, configurations, runs, ports."""
