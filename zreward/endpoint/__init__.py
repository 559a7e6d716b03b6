"""Models behind an OpenAI-compatible endpoint as teachers: requests, answers, and what they say about the labels."""
