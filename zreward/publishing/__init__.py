"""Models for others: plain transformers folders that vLLM serves, model cards, the Hugging Face hub."""
