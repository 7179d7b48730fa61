"""Signals: what the log says at a moment, as columns beside the graph's score.

How much an item was in demand lately, how old it is, what lies near the items that a user touched
of late, the graph's score by her last events alone, and what she touched under another behavior:
each is a column per user and item, known at the moment T and made of nothing later. One conditional
logit per behavior weighs them together with the graph's score; it is fitted on nights of the
validation window, as if each had been tonight. Our extension; not in arXiv 2601.07294.
"""
