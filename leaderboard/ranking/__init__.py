"""Which law predicts best: slopes compared, rows held out, laws ordered."""
