"""To the Hub and back: models, cards, licences, log data sets, the Space."""
