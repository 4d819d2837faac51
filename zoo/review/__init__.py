"""Pull requests on a log data set: what they bring, what they would change."""
