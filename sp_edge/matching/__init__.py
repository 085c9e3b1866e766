"""Formulas of recognition, in NumPy alone."""
