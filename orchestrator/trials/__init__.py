"""One trial: what it is given and reports, and what it does in the process that holds its slot."""
