"""What pages are made of: look, tables, figures, links."""
