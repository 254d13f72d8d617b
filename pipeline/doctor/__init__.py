"""The data doctor: what is wrong with a data set, how bad that is and what to do, before anything is trained on it."""
