"""Predictions against people: metrics, tables, the report. Names that stood here before `prediction` did are still found."""

import lazy_loader

_OLD = ["Predictions", "evaluate", "metrics_table", "predict", "rated_dimensions", "rated_items"]
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"prediction": _OLD})
