"""How good masks are: measures, scores, decision rules, and comparisons of methods."""
