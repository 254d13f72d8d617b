"""Define and check all options, and put options and models into the running bundle."""
