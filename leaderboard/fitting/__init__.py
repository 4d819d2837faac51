"""From a law and rows to numbers: the solver, what the data can tell, and how sure a fit is."""
