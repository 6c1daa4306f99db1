"""The final evaluation and the decision."""
