"""A run's numbers for other programs: TensorBoard, MLflow, Prometheus."""
