"""Evaluation in processes of their own, since FAISS and torch never share one."""
