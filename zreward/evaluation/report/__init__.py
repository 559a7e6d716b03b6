"""One self-contained HTML page about a run: tables, plots, examples. Nothing is fetched when it is opened."""

from zreward.evaluation.report.page import ExampleDimension, ReportExample, write_report

__all__ = ["ExampleDimension", "ReportExample", "write_report"]
