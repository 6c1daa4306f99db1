"""From text to vectors: articles, chunks, embedders, shards."""
