"""Evaluate masks: measures, scores, decision rules, and comparisons of methods."""
