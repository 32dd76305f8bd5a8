"""Retrieval measured on questions with labels: how good, how long it takes, how much it returns, how large it is.

from memory_plugin.evaluate import evaluate, evaluate_copy

print(evaluate("data/locomo", reranker="late", sample=200).runs[0].rows[0].values["ndcg@10"])

A retrieved chunk counts as the row it came from, and a row counts once.  Several models, dimensions and quantizations
are compared on the same questions; each text is embedded once a model.
"""

from memory_plugin.evaluate.comparing import evaluate, evaluate_copy
from memory_plugin.evaluate.figures import Evaluation, Ingest, Latency, Row, Run, Setup
from memory_plugin.evaluate.other_words import OtherWords
from memory_plugin.evaluate.own import evaluate_store, gathered, listed

__all__ = [
    "Evaluation",
    "Ingest",
    "Latency",
    "OtherWords",
    "Row",
    "Run",
    "Setup",
    "evaluate",
    "evaluate_copy",
    "evaluate_store",
    "gathered",
    "listed",
]
