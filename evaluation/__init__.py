"""Retrieval truth: index, per-query ranks, metrics, baselines, significance, table and report.

    predictions -> retrieval.evaluate(index) -> per-query ranks -> metrics.summarise  (actor: as a service)
    checkpoint  -> predict.Predictor (torch; never in a process with FAISS)  (predict_process: alone)
    ranks       -> significance (intervals, pairs) -> verdict.decide  (results.json)
    results     -> table.ComparisonTable, report.write_report, model_card  (for people)

Command lines: evaluation.checkpoint (one checkpoint against its gates), evaluation.compare (two runs, exit 4 when
worse), evaluation.index sweep (breadth of search), evaluation.ablation (terms of the reranker), evaluation.report.
"""
