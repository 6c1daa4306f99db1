"""From predictions to ranks: baselines, oracle, reranker, triage."""
