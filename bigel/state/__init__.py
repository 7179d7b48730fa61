"""The model at a moment: what was learned, over the graph and the events before it."""
