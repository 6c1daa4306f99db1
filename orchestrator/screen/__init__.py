"""What a person sees: plan, live table, summary."""
