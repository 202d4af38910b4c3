"""OpenAI chat completions, with the older completions and the embeddings."""
