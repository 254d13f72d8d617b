"""From experiments to one report."""
