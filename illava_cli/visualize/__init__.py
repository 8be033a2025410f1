"""Which tokens stay and what merged into what, drawn from a trace and the pictures: knows no model."""
