"""Run experiments and write one report on them."""
