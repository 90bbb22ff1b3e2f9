"""Metrics: pure functions from truth and prediction to one value per test item.

``metrics.table`` lists them. Nothing is imported here, so that listing stays cheap.
"""
