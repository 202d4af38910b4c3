"""Gemini: generateContent, countTokens, embeddings."""
