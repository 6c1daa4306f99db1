"""From text to aligned windows: corpus, embedding, payload, windows, preflight and the stream of row numbers."""
