"""What can be configured and planned about models and training; imports no torch."""
