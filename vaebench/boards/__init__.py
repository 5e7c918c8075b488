"""Rows and what is made of them: the store, ranks, comparisons, exports and pages. No torch."""
