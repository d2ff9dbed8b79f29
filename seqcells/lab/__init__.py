"""The application: text, models, training, prediction, reports, export, the command line."""
