"""The one index of a run: build it, choose it, keep it, check a given one. FAISS, never torch."""
