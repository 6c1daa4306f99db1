"""The modules: state space model, attention, variants, and the AMN baseline."""
