"""Review results: look at each scan in the browser, accept, correct or reject its mask."""
