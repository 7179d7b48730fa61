"""Lists: who makes them, from which model, and which items may be in them."""
