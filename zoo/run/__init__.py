"""One run: its folder, the pipeline, the gate, the record."""
