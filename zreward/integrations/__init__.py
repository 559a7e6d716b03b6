"""The student as other programs' reward or metric: a few lines each; docs/guides/plugins.md shows them at work."""
