"""What is asked of the entities: filters, lists, figures, details, and rows as text for programs."""
