"""The training phase in the driver: its stages, Ray Tune, the judge of every report."""
