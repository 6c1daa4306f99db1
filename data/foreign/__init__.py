"""Files of other programs, read without running their code and turned into payload and windows."""
