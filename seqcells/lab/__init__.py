"""The application: text, models, training, prediction, reports, export, command line."""
