"""Tables, charts, report.html and the model card."""
