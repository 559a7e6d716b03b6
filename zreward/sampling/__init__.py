"""Traces and scores from an inference engine (vLLM) that holds a copy of a reward model's weights."""
