"""Ollama: /api/chat, /api/generate, /api/embed."""
