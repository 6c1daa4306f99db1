"""The searched corpus on disk: vectors, truth keys, texts, and which rows are exact copies."""
